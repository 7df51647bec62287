"""Area O, as far as reading text goes: broken and hostile files, in every form that text comes in, plain and packed.

Each case is refused by an error that names the file, or read as the text that it is; nothing is written, no memory is
filled, and a sound file beside it still reads.
"""

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from lamoid.data import files
from lamoid.data.sources import read_documents
from lamoid.errors import InputError
from lamoid.recipes.clean import clean
from lamoid.recipes.prepare import prepare
from lamoid.recipes.tokenizer import tokenizer

FORMS = ["txt", "jsonl", "csv", "tsv", "parquet", "txt.gz", "jsonl.gz", "csv.gz", "tsv.gz", "parquet.gz"]
BINARY = random.Random(0).randbytes(5000)

# Name, what the file holds, and what is said of it; each is refused in every form.
REFUSED = [
    ("empty", b"", "empty|no whole"),
    ("one byte that is no text", b"\xff", "not UTF-8|no whole"),
    ("a NUL byte", b"text\0text", "NUL byte at byte offset 4|no whole"),
    ("binary", BINARY, "NUL byte|not UTF-8|no whole"),
    ("an ELF head", b"\x7fELF\x02\x01\x01" + bytes(64), "NUL byte|no whole"),
    ("Latin-1", "text\nœuvre café".encode("latin-1", errors="replace"), "not UTF-8|no whole"),
    ("a surrogate in UTF-8", b"text\n\xed\xa0\x80", "not UTF-8|no whole"),
    ("an overlong slash", b"text\n\xc0\xaf", "not UTF-8|no whole"),
    ("a character cut in the middle", "text\n中".encode()[:-1], "not UTF-8|no whole"),
    ("UTF-16", "text\nmore".encode("utf-16"), "UTF-16|no whole"),
    ("UTF-32 without a mark", "text\nmore".encode("utf-32-le"), "NUL byte|UTF-16|no whole"),
    ("only white space", b" \r\n\t\n  \n", "white space|not JSON|no single column|no whole|is empty"),
]


@pytest.fixture(scope="module")
def text_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "a.txt").write_text("one two three\n" * 5)
    tokenizer([str(folder / "a.txt")], out=folder / "tok", vocab=260)
    return folder / "tok"


def packed(data: bytes, form: str) -> bytes:
    return gzip.compress(data) if form.endswith("gz") else data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("data", "match"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_no_text_is_refused_by_name_and_nothing_is_written(
    data: bytes, match: str, form: str, tmp_path: Path, text_tokenizer: Path
) -> None:
    path = tmp_path / f"in.{form}"
    if "jsonl" in form and data.startswith(b"text\n"):
        data = data.replace(b"text\n", b'{"text": "sound"}\n')
    path.write_bytes(packed(data, form))
    with pytest.raises(InputError, match=match) as caught:
        list(read_documents([path], part=1000))
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match=match):
        clean([str(path)], out=tmp_path / "out.jsonl", workers=1, set=["length.on=false"])
    with pytest.raises(InputError, match=match):
        prepare([str(path)], tokenizer=text_tokenizer, out=tmp_path / "out")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("txt", b"a\r\nb\r\n"),
        ("jsonl", b'{"text": "a\\r\\nb\\r\\n"}\r\n'),
        ("csv", b'text\r\n"a\r\nb\r\n"\r\n'),
        ("txt.gz", b"a\r\nb\r\n"),
        ("jsonl.gz", b'{"text": "a\\r\\nb\\r\\n"}\r\n'),
        ("csv.gz", b'text\r\n"a\r\nb\r\n"\r\n'),
    ],
)
def test_ends_of_lines_of_two_characters_stay_in_the_text_alone(form: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / f"in.{form}").write_bytes(packed(data, form))
    assert [d.text for d in read_documents([tmp_path / f"in.{form}"])] == ["a\r\nb\r\n"]
    assert [d.text for d in read_documents([tmp_path / f"in.{form}"], part=3)] == ["a\r\n", "b\r\n"]


def test_one_byte_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"a")
    assert [d.text for d in read_documents([tmp_path / "in.txt"])] == ["a"]


@pytest.mark.parametrize("form", ["jsonl", "tsv", "jsonl.gz", "tsv.gz", "csv", "csv.gz"])
def test_a_line_of_a_gigabyte_is_refused_before_it_is_held(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit brought down from 64 MiB to 64 KiB, and 4 MiB of line: blocks are counted as they are read."""
    monkeypatch.setattr(files, "LONGEST_LINE", 2**16)
    path = tmp_path / f"in.{form}"
    head = b'{"text": "' if "json" in form else b"text\n"
    path.write_bytes(packed(head + b"a" * 2**22, form))
    with pytest.raises(InputError, match=r"line [12]: is longer than 65536"):
        list(read_documents([path]))


def test_a_sparse_file_of_a_gigabyte_is_refused_at_its_first_hole(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "one"}\n')
    os.truncate(path, 2**30)
    with pytest.raises(InputError, match="line 2: is longer than 67108864 bytes"):
        list(read_documents([path]))
    path.rename(tmp_path / "in.txt")
    with pytest.raises(InputError, match="NUL byte at byte offset 16"):
        list(read_documents([tmp_path / "in.txt"], part=1000))


@pytest.mark.parametrize("form", ["txt", "jsonl", "csv"])
@pytest.mark.parametrize("change", [-100, 100])
def test_a_file_that_shrinks_or_grows_during_the_run_is_refused(
    form: str, change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 1000)
    path = tmp_path / f"in.{form}"
    lines = [json.dumps({"text": f"line {n}"}) if form == "jsonl" else f"line {n}" for n in range(20_000)]
    path.write_text("\n".join(["text" if form == "csv" else lines[0], *lines]))
    size = path.stat().st_size
    documents = read_documents([path], part=1000)
    next(documents)
    with path.open("r+b") as file:
        if change < 0:
            file.truncate(size + change)
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n" + b" " * change)
    with pytest.raises(InputError, match=r"changed while it was read|is not JSON"):
        list(documents)


def test_a_sound_file_reads_beside_every_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("sound")
    for _, data, _ in REFUSED:
        (tmp_path / "b.txt").write_bytes(data)
        documents = read_documents([tmp_path / "a.txt", tmp_path / "b.txt"])
        assert next(documents).text == "sound"
        with pytest.raises(InputError, match=r"b\.txt"):
            list(documents)
        assert [d.text for d in read_documents([tmp_path / "a.txt"])] == ["sound"]
