"""Packed files: what gzip itself wrote comes back, whatever is damaged is named, and a bomb fills no memory."""

import bz2
import gzip
import io
import os
import random
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.data import compressed, files
from lamoid.data.compressed import Unpacked
from lamoid.data.files import text_blocks, text_lines
from lamoid.data.sources import read_documents
from lamoid.errors import InputError

TEXT = "one line of text\nand 中文 in another\n" * 40


def unpack(data: bytes, sizes: int = 2**16) -> bytes:
    file = Unpacked(io.BytesIO(data), len(data), Path("a.gz"))
    pieces = []
    while piece := file.read(sizes):
        pieces.append(piece)
    return b"".join(pieces)


@settings(max_examples=100)
@given(
    members=st.lists(st.binary(max_size=300), min_size=1, max_size=4), sizes=st.integers(1, 500), zeros=st.booleans()
)
def test_what_gzip_packed_comes_back(members: list[bytes], sizes: int, zeros: bool) -> None:
    packed = b"".join(gzip.compress(member) for member in members) + b"\0" * 100 * zeros
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed, "BLOCK", 7)
        assert unpack(packed, sizes) == gzip.decompress(packed) == b"".join(members)


def test_what_the_gzip_program_packed_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    subprocess.run(["gzip", "--best", str(tmp_path / "a.txt")], check=True)
    assert "".join(text_blocks(tmp_path / "a.txt.gz")) == TEXT


def test_a_cut_at_every_byte_is_noticed() -> None:
    packed = gzip.compress(TEXT.encode())
    for length in range(len(packed)):
        with pytest.raises(InputError, match=rf"at byte offset {length}\b"):
            unpack(packed[:length])


def test_every_flipped_bit_is_noticed_or_changes_nothing() -> None:
    """The head of a gzip file holds a time and a name, which no check sum covers."""
    packed = bytearray(gzip.compress(TEXT.encode()))
    noticed, said = 0, set[str]()
    for bit in range(8 * len(packed)):
        packed[bit // 8] ^= 1 << bit % 8
        try:
            assert unpack(bytes(packed)) == TEXT.encode()
        except InputError as error:
            noticed += 1
            said.add(str(error))
        packed[bit // 8] ^= 1 << bit % 8
    assert all("a.gz" in error and "byte offset" in error for error in said)
    assert noticed > 8 * (len(packed) - 10)


@pytest.mark.parametrize(  # mtime=0: the tests' names hold the data, and must not hang on the second
    ("data", "match"),
    [
        (b"", "is empty, which no gzip file is"),
        (b"\0" * 20, "is no whole gzip file"),
        (b"plain text", "is no whole gzip file"),
        (bz2.compress(b"text"), "is no whole gzip file"),
        (zlib.compress(b"text"), "is no whole gzip file"),
        (gzip.compress(b"text", mtime=0) + b"more", "is no whole gzip file"),
        (gzip.compress(b"text", mtime=0) + gzip.compress(b"more", mtime=0)[:-3], "ends in the middle"),
        (gzip.compress(b"text\xff", mtime=0), "is not UTF-8: .* at byte offset 4"),
        (gzip.compress(b"text\0", mtime=0), "NUL byte at byte offset 4"),
        (gzip.compress(b"", mtime=0), "is empty or holds nothing"),
    ],
)
def test_what_is_no_packed_text_is_refused(data: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(data)
    with pytest.raises(InputError, match=match):
        list(read_documents([tmp_path / "a.txt.gz"]))


def test_a_packed_file_that_shrinks_or_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "BLOCK", 50)
    monkeypatch.setattr(files, "BLOCK", 50)
    path = tmp_path / "a.txt.gz"
    packed = gzip.compress(os.urandom(20_000).hex().encode())
    for size, match in ((5_000, "changed while it was read"), (len(packed) + 20_000, "changed while it was read")):
        path.write_bytes(packed)
        blocks = text_blocks(path)
        next(blocks)
        os.truncate(path, size)
        with pytest.raises(InputError, match=match):
            list(blocks)


@pytest.mark.parametrize("seed", range(8))
def test_zeros_behind_the_last_member_are_filling_wherever_the_blocks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    text = random.Random(seed).randbytes(2_000).hex()
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(text.encode()) + bytes(200))
    for block in range(40, 72):
        monkeypatch.setattr(compressed, "BLOCK", block)
        monkeypatch.setattr(files, "BLOCK", block)
        assert "".join(text_blocks(path)) == text


def test_a_bomb_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 2**20)
    monkeypatch.setattr("lamoid.data.sources.LONGEST_UNPACKED", 2**21)
    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(100):
            file.write(b"a" * 2**20)
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    try:
        assert sum(map(len, text_blocks(path))) == 100 * 2**20
        with pytest.raises(InputError, match="line 1: is longer than"):
            list(text_lines(path))
        with pytest.raises(InputError, match="unpacks to more than 2097152 characters"):
            list(read_documents([path]))
        assert sum(len(part.text) for part in read_documents([path], part=2**16)) == 100 * 2**20
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_folder_holds_packed_files_too(tmp_path: Path) -> None:
    for name, text in (("b.jsonl.gz", '{"text": "two"}\n'), ("a.txt.GZ", "one"), ("c.tar.gz", "three")):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    assert [document.text for document in read_documents([tmp_path])] == ["one", "two"]
