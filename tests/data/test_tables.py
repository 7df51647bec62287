"""Rows of tables: those that Python's csv and pyarrow read, and errors that name the place."""

import csv
import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.data import compressed, files, tables
from lamoid.data.labelled import read_labelled
from lamoid.data.sources import read_documents
from lamoid.data.tables import parquet_rows, table_rows
from lamoid.errors import InputError

CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


def texts(path: Path, **settings: Any) -> list[str]:
    return [document.text for document in read_documents([path], **settings)]


def write_parquet(path: Path, columns: dict[str, list[Any]], **settings: Any) -> Path:
    if path.suffix == ".gz":
        held = io.BytesIO()
        pq.write_table(pa.table(columns), held, **settings)
        path.write_bytes(gzip.compress(held.getvalue()))
    else:
        pq.write_table(pa.table(columns), path, **settings)
    return path


@settings(max_examples=100)
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=6),
    end=st.sampled_from(["\r\n", "\n", "\r"]),
    size=st.integers(1, 9),
)
def test_csv_is_what_pythons_own_reader_reads(
    rows: list[list[str]], end: str, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    held = io.StringIO()
    csv.writer(held, lineterminator=end).writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(held.getvalue().encode())
    expected = [row for row in csv.reader(io.StringIO(held.getvalue(), newline=""), strict=True) if row]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", size)
        patch.setattr(tables, "ROWS", 2)
        assert [row for _, row in table_rows(path)] == expected
    assert csv.field_size_limit() == 131072


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "tsv.gz"])
def test_a_row_is_a_document(suffix: str, tmp_path: Path) -> None:
    mark = "," if "csv" in suffix else "\t"
    data = f"id{mark}body\n1{mark}one\n2{mark} \n3{mark}two 中文\n".encode()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert texts(path, field="body") == ["one", "two 中文"]
    found = list(read_documents([path], field="body", part=4))
    assert [(d.name, d.text, d.ends) for d in found[1:]] == [(f"{path}:4", "two", False), (f"{path}:4", " 中文", True)]


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.csv", b"body,id\nx,1\n", "no single column 'text', only body, id"),
        ("a.csv", b"text,text\nx,1\n", "no single column 'text'"),
        ("a.csv", b"text,id\nx\n", "line 2: has 1 columns, not 2"),
        ("a.csv", b'text\n"x\n', "line 2: is no CSV"),
        ("a.csv", b"text\nx\xff\n", "is not UTF-8: .* at byte offset 6"),
        ("a.csv", b"text\nx\0\n", "NUL byte at byte offset 6"),
        ("a.tsv", b"text\tid\nx\ty\tz\n", "line 2: has 3 columns, not 2"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"text\n", "is empty"),
        ("a.parquet", b"", "is no whole Parquet file"),
        ("a.parquet", b"PAR1" * 10, "is no whole Parquet file"),
    ],
)
def test_what_is_no_table_is_named(name: str, data: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        texts(tmp_path / name)
    assert name in caught.value.culprit


def test_a_quote_that_is_never_closed_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_CELL", 2**16)
    monkeypatch.setattr(files, "LONGEST_LINE", 2**20)
    path = tmp_path / "a.csv"
    path.write_text('text\n"' + "x" * 100 + "\n" * 2**21)
    with pytest.raises(InputError, match="is no CSV: field larger than field limit"):
        texts(path)
    path.write_text("text\n" + "x" * 2**22)
    with pytest.raises(InputError, match="line 2: is longer than 1048576 characters"):
        texts(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_is_what_pyarrow_wrote(name: str, kind: pa.DataType, tmp_path: Path) -> None:
    said = [f"text {number} 中文" * (number % 7) for number in range(1000)]
    columns = {"text": pa.array(said).cast(kind), "n": list(range(1000))}
    path = write_parquet(tmp_path / name, columns, row_group_size=300)
    assert texts(path) == [text for text in said if text]
    assert [values for _, values in parquet_rows(path, ["n", "text"])] == list(enumerate(said))


def test_what_a_parquet_file_lacks_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["x", None], "n": [1, 2]})
    with pytest.raises(InputError, match=r"a.parquet: row 2: has no text in the column 'text', but 'None'"):
        texts(path)
    with pytest.raises(InputError, match="row 1: has no text in the column 'n', but '1' of type int"):
        texts(path, field="n")
    with pytest.raises(InputError, match="has no single column 'body', only text, n"):
        texts(path, field="body")


def test_a_damaged_parquet_file_is_noticed_or_reads_the_same(tmp_path: Path) -> None:
    """Pages carry check sums only where the writer asked for them, so a flipped bit of text may stay unnoticed."""
    path = write_parquet(tmp_path / "a.parquet", {"text": [f"line {n}" for n in range(50)]}, compression="none")
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.parquet"):
            texts(path)
    outcomes: set[int | bool] = set()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            outcomes.add(len(texts(path)))
        except InputError as error:
            outcomes.add("a.parquet" in error.culprit)
    assert outcomes == {50, True}


def test_a_text_that_stands_in_many_rows_is_held_once(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": pa.array(["x" * 2**20] * 300)})
    assert path.stat().st_size < 2**20
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        count = 0
        for _ in read_documents([path]):
            count += 1
            assert pa.total_allocated_bytes() - before < 50 * 2**20
        assert count == 300
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_packed_table_that_grows_a_hundredfold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "SMALL", 2**10)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(InputError, match=r"unpacks to more than .* bytes, 100 times its size"):
        texts(tmp_path / "a.parquet.gz")


def test_a_row_group_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_COLUMN", 1000)
    path = write_parquet(tmp_path / "a.parquet", {"text": [str(n) * 10 for n in range(500)]})
    with pytest.raises(InputError, match=r"has a row group with .* bytes of 'text', the limit is 1000"):
        texts(path)


@pytest.mark.parametrize("form", ["csv.gz", "tsv.gz", "jsonl.gz", "parquet", "parquet.gz", "folder"])
def test_labelled_texts_come_from_every_form(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    if form == "folder":
        for label, text in (("art", "one"), ("law", "two")):
            (path / label).mkdir(parents=True)
            (path / label / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    elif "parquet" in form:
        write_parquet(path, {"n": [1, 2], "label": ["art", "law"], "text": ["one", "two"]})
    elif "jsonl" in form:
        path.write_bytes(gzip.compress(b'{"text":"one","label":"art"}\n{"text":"two","label":"law"}\n'))
    else:
        data = b"text,label\none,art\ntwo,law\n"
        path.write_bytes(gzip.compress(data.replace(b",", b"\t") if "tsv" in form else data))
    assert [(entry.text, entry.label) for entry in read_labelled(path)] == [("one", "art"), ("two", "law")]


def test_labels_of_a_parquet_file_may_be_numbers_and_must_be_there(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["one", "two"], "label": [1, 0], "half": [0.5, None]})
    assert [entry.label for entry in read_labelled(path)] == ["1", "0"]
    with pytest.raises(InputError, match=r"row 1: 'half' is '0.5'"):
        read_labelled(path, label="half")
    with pytest.raises(InputError, match="has no single column 'stars', only text, label, half"):
        read_labelled(path, label="stars")
