"""A file written bit by bit: whole under its name, or as it was before, whatever fails."""

import errno
import gzip
import os
from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.weights.durable import DurabilityUncertain, NotCommitted
from lamoid.weights.durable_stream import durable_stream

DATA = [bytes([n % 251]) * 5000 for n in range(500)]


def write(target: Path, **settings) -> None:
    with durable_stream(target, **settings) as file:
        for piece in DATA:
            assert file.write(piece) == len(piece)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_is_written_stands_under_the_name(name: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / name
    write(target)
    data = target.read_bytes()
    assert (gzip.decompress(data) if name.endswith("gz") else data) == b"".join(DATA)
    with pytest.raises(InputError, match="exists already"):
        write(target)
    write(target, overwrite=True)
    assert target.read_bytes() == data
    assert [path.name for path in target.parent.iterdir()] == [name]


def give_up(target: Path) -> None:
    with durable_stream(target, overwrite=True) as file:
        file.write(b"x" * 2**21)
        raise KeyError


def test_after_an_error_everything_is_as_before(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    for name in ("a", "b", "c.gz"):
        with pytest.raises(KeyError):
            give_up(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write(tmp_path / "a", overwrite=True)


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_every_file_operation_may_fail(
    name: str, old: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, outcomes = tmp_path / name, []
    for call in range(40):
        if old:
            target.write_text("old")
        else:
            target.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            left = [call]
            for function in ("open", "write", "fsync", "replace", "rename", "link"):
                patch.setattr(os, function, failing(getattr(os, function), left, code))
            try:
                write(target, overwrite=old)
                outcomes.append("done")
            except NotCommitted:
                outcomes.append("not")
            except DurabilityUncertain:
                outcomes.append("uncertain")
        whole = outcomes[-1] != "not"
        assert target.exists() == (whole or old)
        if target.exists():
            data = target.read_bytes()
            assert (gzip.decompress(data) if name.endswith("gz") and whole else data) == (
                b"".join(DATA) if whole else b"old"
            )
        assert {path.name for path in tmp_path.iterdir()} <= {name}
        if left[0] >= 0:
            break
    assert outcomes[-1] == "done"
    assert outcomes[-2] == "uncertain"
    assert set(outcomes[:-3]) == {"not"}


def failing(real, left: list[int], code: int):
    def call(*arguments, **more):
        left[0] -= 1
        if left[0] == -1:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **more)

    return call
