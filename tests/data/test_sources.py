"""Documents out of files, and files that are no text."""

import codecs
import gzip
import json
import os
import re
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.data import files
from lamoid.data.damage import Damage
from lamoid.data.sources import Document, _parts, _split, cut_place, read_documents
from lamoid.errors import InputError


def texts(*paths: Path | str, **settings) -> list[str]:
    return [document.text for document in read_documents(list(paths), **settings)]


def test_a_file_is_one_document_with_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\r\ntwo é\n".encode())
    found = list(read_documents([tmp_path / "a.txt"]))
    assert found == [Document(str(tmp_path / "a.txt"), "one\r\ntwo é\n")]


def test_a_separator_splits_and_blank_documents_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n<sep>\n<sep> <sep>two\n<sep>")
    assert texts(tmp_path / "a.txt", separator="<sep>") == ["one\n", "two\n"]


def test_json_lines_give_their_field(tmp_path: Path) -> None:
    lines = [{"text": "a\nb", "more": 1}, {"text": "é"}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert texts(tmp_path / "a.jsonl") == ["a\nb", "é"]
    assert [d.name for d in read_documents([tmp_path / "a.jsonl"])] == [f"{tmp_path}/a.jsonl:{n}" for n in (1, 3)]


def test_folders_and_globs_are_sorted_and_no_file_comes_twice(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.md", "sub/d.bin"):
        (tmp_path / name).write_text(name)
    (tmp_path / "sub/empty.txt").write_text("")
    assert texts(tmp_path) == ["a.txt", "b.txt", "sub/c.md"]
    assert texts(str(tmp_path / "**/*.txt"), tmp_path / "sub", tmp_path / "b.txt") == ["a.txt", "b.txt", "sub/c.md"]
    assert texts(tmp_path / "sub/d.bin") == ["sub/d.bin"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + b"text")
    (tmp_path / "b.jsonl").write_bytes(codecs.BOM_UTF8 + b'{"text": "line"}')
    assert texts(tmp_path) == ["text", "line"]


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("empty.txt", b"", "is empty"),
        ("blank.txt", b" \r\n\t\n", "nothing but white space"),
        ("nul.txt", b"abc\0def", "NUL byte at byte offset 3"),
        ("latin.txt", "caf\xe9 au".encode("latin-1"), "byte offset 3"),
        ("gbk.txt", "中文".encode("gbk"), "byte offset 0"),
        ("utf16.txt", "hello".encode("utf-16"), "UTF-16"),
        ("utf32.txt", codecs.BOM_UTF32_BE + b"\0\0\0a", "UTF-16 or UTF-32"),
        ("cut.txt", b"ab\xe4\xb8", "unexpected end of data at byte offset 2"),
        ("marked.txt", codecs.BOM_UTF8 + b"ab\xff", "byte offset 5"),
        ("empty.jsonl", b"", "is empty"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": ', "broken.jsonl:2: is not JSON"),
        ("field.jsonl", b'{"body": "a"}', "no text in the field 'text', only body"),
        ("number.jsonl", b'{"text": 3}', "no text in the field 'text'"),
        ("list.jsonl", b"[1]", "no object"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xe9"}', "byte offset 24"),
        ("surrogate.jsonl", b'{"text": "\\ud800"}', "is not JSON"),
        ("deep.jsonl", b'{"text": ' + b"[" * 100_000, "is not JSON"),
        ("nan.jsonl", b'{"text": NaN}', "is not JSON"),
    ],
)
def test_what_is_no_text_is_refused(name: str, data: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        texts(tmp_path / name)
    assert name in str(caught.value)


@settings(max_examples=60)
@given(st.integers(0, 40), st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0"]))
def test_the_offset_is_that_of_the_first_wrong_byte(
    tmp_path_factory: pytest.TempPathFactory, at: int, bad: bytes
) -> None:
    path = tmp_path_factory.mktemp("offset") / "a.txt"
    good = "中é👩a".encode() * 5
    place = len(good.decode(errors="ignore")[: at % 20].encode())
    path.write_bytes(good[:place] + bad + b"tail")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", 7)
        with pytest.raises(InputError, match=rf"byte offset {place}\b"):
            texts(path)


def test_what_names_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "only.bin").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for path, match in [
        (tmp_path / "absent.txt", "names no file"),
        (tmp_path / "*.txt", "names no file"),
        (tmp_path, "suffixes"),
        (tmp_path / "loop", "names no file"),
        (tmp_path / "pipe", r"a pipe \(FIFO\), not a plain file"),
    ]:
        with pytest.raises(InputError, match=match):
            texts(str(path))
    with pytest.raises(InputError, match="none is given"):
        texts()
    with pytest.raises(InputError, match="separator: is empty"):
        texts(tmp_path / "only.bin", separator="")
    with pytest.raises(InputError, match="a device, not a plain file"):
        texts("/dev/zero")


def test_a_folder_of_empty_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match="no text at all"):
        texts(tmp_path)


def test_a_line_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 20)
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + json.dumps({"text": "a" * 30}))
    with pytest.raises(InputError, match="line 2: is longer than 20 bytes"):
        texts(tmp_path / "a.jsonl")


def test_a_file_that_shrinks_or_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK", 10)
    path = tmp_path / "a.txt"
    for change in (5, 60_000):
        path.write_text("a" * 30_000)
        blocks = files.text_blocks(path)
        next(blocks)
        os.truncate(path, change)
        with pytest.raises(InputError, match="changed while it was read" if change == 5 else "NUL byte"):
            list(blocks)


@settings(max_examples=150)
@given(
    blocks=st.lists(st.text("ab;,\n\r ", min_size=1, max_size=9), max_size=8),
    separator=st.sampled_from([";", ";,", "aba", "\n", "\n\n", ";\n", "\n;\n", "\r\n", None]),
    part=st.sampled_from([None, 2, 5]),
)
def test_splitting_blocks_is_splitting_the_whole(blocks: list[str], separator: str | None, part: int | None) -> None:
    whole = "".join(blocks)
    ends = r"\r?\n".join(map(re.escape, (separator or "").split("\n")))  # a line ends with LF or CR LF
    expected = [t for t in (re.split(ends, whole) if separator else [whole]) if t and not t.isspace()]
    found, text = [], ""
    for pieces in _split(iter(blocks), separator):
        for document in _parts("name", pieces, part):
            assert part is None or len(document.text) <= part
            text += document.text
            if document.ends:
                found.append(text)
                text = ""
    assert [t for t in found if not t.isspace()] == expected
    assert text == ""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_parts_text_however_its_lines_end(end: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(f"one{end}two{end}{end}three{end}".encode())
    assert texts(tmp_path / "a.txt", separator="\n\n") == [f"one{end}two", f"three{end}"]


@pytest.mark.parametrize("separator", [r"\n\n", r"\n", r"\r\n", r"\t", r"---\n", r"\n---\n"])
def test_a_separator_whose_backslash_nobody_read_is_refused(separator: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    with pytest.raises(
        InputError, match=r"separator: is .* with a backslash and the letter .* Write \$'.n.n' in a shell"
    ):
        texts(tmp_path / "a.txt", separator=separator)


def test_a_separator_of_tex_is_none_of_those(tmp_path: Path) -> None:
    (tmp_path / "a.tex.txt").write_text("one\\newpage two")
    assert texts(tmp_path / "a.tex.txt", separator=r"\newpage") == ["one", " two"]


def test_a_text_is_cut_after_a_line_or_before_a_word() -> None:
    assert cut_place("one line\nanother line here", 15) == 9
    assert cut_place("words words words words", 14) == 11
    assert cut_place("one\n\n\ntwo three four", 9) == 9
    assert cut_place("a" * 20, 8) == 8


def test_a_field_that_is_no_text_is_named_with_its_value_and_type(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(InputError, match="field 'text', but '3' of type int"):
        list(read_documents([tmp_path / "a.jsonl"]))


@pytest.mark.parametrize("mode", ["replace", "skip"])
@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_bytes_that_are_no_text_are_mended_as_python_does_and_counted(
    mode: Literal["replace", "skip"], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    data = "café 是".encode() + b" \xe9t\xe9 \x00 \xe6\x98\n\xff" + "\ufffd 🦙".encode() + b" \xf0\x9f"
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.txt").write_text("sound \ufffd")
    damage = Damage(mode)
    found, sound = texts(tmp_path / "a.txt", tmp_path / "b.txt", damage=damage)
    mark = "\ufffd" if mode == "replace" else ""
    assert found == data.decode(errors=mode if mode == "replace" else "ignore").replace("\0", mark)
    assert sound == "sound \ufffd"
    assert damage.places == {str(tmp_path / "a.txt"): 6}
    ((where, now),) = damage.samples
    assert where == f"{tmp_path / 'a.txt'}: byte offset 10: e9"
    assert now == mark


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz"])
def test_rows_are_mended_too(name: str, tmp_path: Path) -> None:
    data = b'{"text": "caf\xe9"}\n{"text": "b"}\n' if "json" in name else b"text\ncaf\xe9\nb\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    damage = Damage("replace")
    assert texts(tmp_path / name, damage=damage) == ["caf\ufffd", "b"]
    assert list(damage.places.values()) == [1]
    with pytest.raises(InputError, match=r"not UTF-8: .* at byte offset .*`lamoid clean --encoding-errors replace`"):
        texts(tmp_path / name)
