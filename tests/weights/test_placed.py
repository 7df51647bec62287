"""Large files past the page cache: the same bytes as the common way, in any chunks, taken up at any byte, in parts."""

import errno
import hashlib
import random
from pathlib import Path

import pytest

from lamoid.weights import placed
from lamoid.weights.hashed import Entry
from lamoid.weights.placed import GATHERED, PlacedFile, hash_from_disk

DATA = random.Random(0).randbytes(2 * GATHERED + 12_345)


def chunks(data: bytes, size: int) -> list[memoryview]:
    return [memoryview(data)[at : at + size] for at in range(0, len(data), size)]


@pytest.fixture(params=["direct", "refused when opened", "refused when written"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The disk's own way, and both ways in which file systems refuse it."""
    if request.param == "refused when opened":
        monkeypatch.setattr(placed, "_open_direct", lambda path, mode=0: None)
    elif request.param == "refused when written":
        write_at = placed._write_at
        direct: list[int] = []
        opened = placed._open_direct

        def remember(path: Path, mode: int = placed.os.O_WRONLY) -> int | None:
            found = opened(path, mode)
            direct.extend([found] if found is not None and mode == placed.os.O_WRONLY else [])
            return found

        def refuse(descriptor: int, view: memoryview, place: int) -> None:
            if descriptor in direct:
                direct.remove(descriptor)
                raise OSError(errno.EINVAL, "not aligned")
            write_at(descriptor, view, place)

        monkeypatch.setattr(placed, "_open_direct", remember)
        monkeypatch.setattr(placed, "_write_at", refuse)
    return request.param


@pytest.mark.parametrize("size", [len(DATA), 4096, 100, 0])
@pytest.mark.parametrize("chunk", [1 << 20, 777_777])
def test_bytes_and_hash(tmp_path: Path, way: str, size: int, chunk: int) -> None:
    entries: dict[str, Entry] = {}
    file = PlacedFile(tmp_path / "x", size, entries)
    for part in chunks(DATA[:size], chunk):
        file.write(part)
    file.close(verify=True)
    file.abandon()
    assert (tmp_path / "x").read_bytes() == DATA[:size]
    assert entries == {"x": {"size": size, "sha256": hashlib.sha256(DATA[:size]).hexdigest()}}
    assert hash_from_disk(tmp_path / "x") == entries["x"]["sha256"]


@pytest.mark.parametrize("stop", [0, 100, 4096, 1_000_003, GATHERED, GATHERED + 5000, len(DATA)])
def test_taken_up_where_it_was_safe(tmp_path: Path, way: str, stop: int) -> None:
    first = PlacedFile(tmp_path / "x", len(DATA), {})
    for part in chunks(DATA[:stop], 300_000):
        first.write(part)
    safe = first.sync()
    assert stop - 4096 < safe <= stop
    first.write(memoryview(b"not known to be on the disk"[: len(DATA) - stop]))
    first.abandon()
    if safe == 0:
        (tmp_path / "x").unlink()
    entries: dict[str, Entry] = {}
    second = PlacedFile(tmp_path / "x", len(DATA), entries, start=safe)
    assert second.position == safe
    second.write(memoryview(DATA)[safe:])
    second.close()
    assert (tmp_path / "x").read_bytes() == DATA
    assert entries["x"]["sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("cut", [1, 4095, 4096, 70_001, GATHERED + 1])
def test_parts_of_several_writers_do_not_touch_each_other(tmp_path: Path, way: str, cut: int) -> None:
    (tmp_path / "x").write_bytes(b"\xff" * len(DATA))
    for begin, end in ((cut, 2 * cut), (2 * cut, len(DATA)), (0, cut)):
        part = PlacedFile(tmp_path / "x", len(DATA), {}, start=begin, end=len(DATA))
        for piece in chunks(DATA[begin:end], 100_000):
            part.write(piece)
        part.sync()
        part.end_here()
    assert (tmp_path / "x").read_bytes() == DATA


def test_neither_more_nor_less_than_was_said(tmp_path: Path) -> None:
    file = PlacedFile(tmp_path / "x", 10, {})
    with pytest.raises(ValueError, match="bytes behind 10"):
        file.write(memoryview(bytes(11)))
    file.write(memoryview(bytes(9)))
    with pytest.raises(ValueError, match="9 of 10 bytes"):
        file.close()
    with pytest.raises(FileExistsError):
        PlacedFile(tmp_path / "x", 10, {})


def test_a_full_disk_is_said_by_the_next_write_or_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(placed, "_write_at", full)
    file = PlacedFile(tmp_path / "x", len(DATA), {})
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        for part in chunks(DATA, 1 << 20):
            file.write(part)
        file.close()
    file.abandon()
