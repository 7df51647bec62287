"""Rows of every form of file are the same records, and a bad one is named by its line."""

import gzip
import json
from pathlib import Path

import pytest

from lamoid.data.rows import Record, read_records
from lamoid.errors import InputError

ROWS = [{"text": "one, two", "label": "a"}, {"text": "drei\u00df", "label": "b"}]


def files(folder: Path) -> list[Path]:
    lines = "\n".join(json.dumps(row) for row in ROWS)
    table = "text,label\n" + "\n".join(f'"{row["text"]}",{row["label"]}' for row in ROWS) + "\n"
    tabs = "text\tlabel\n" + "\n".join(f"{row['text']}\t{row['label']}" for row in ROWS) + "\n"
    written = {"a.jsonl": lines, "a.ndjson": lines, "a.json": json.dumps(ROWS), "a.csv": table, "a.tsv": tabs}
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return [*(folder / name for name in written), folder / "b.jsonl.gz"]


def test_all_forms_hold_the_same_rows(tmp_path: Path) -> None:
    for path in files(tmp_path):
        found = list(read_records([path]))
        assert [record.fields for record in found] == ROWS, path
        assert all(record.name.startswith(str(path)) for record in found)


def test_parquet_holds_them_too(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert [record.fields for record in read_records([tmp_path / "a.parquet"], ("text", "label"))] == ROWS


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.jsonl", '{"a": 1}\n[1]\n', "line 2"),
        ("a.jsonl", '{"a": 1}\n{"a": NaN}\n', "line 2"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', "line 1"),
        ("a.jsonl", "\n", "holds no row"),
        ("a.json", '[{"a": 1}, 2]', "entry 2"),
        ("a.json", "{", "a.json"),
        ("a.csv", "a,b\n1\n", "line 2"),
        ("a.csv", "a,a\n1,2\n", "twice"),
        ("a.xyz", "a", "ends with"),
    ],
)
def test_a_bad_row_is_named(name: str, text: str, where: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as refused:
        list(read_records([tmp_path / name]))
    assert where in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "1e999", "one", True, None, [1], 10**400])
def test_a_number_is_finite(value: object) -> None:
    with pytest.raises(InputError, match=r"f: line 1: score: is .*, no finite number"):
        Record({"score": value}, "f: line 1").number("score")


def test_fields_are_of_their_kinds() -> None:
    record = Record({"n": "1.5", "t": " ", "l": "a, b,", "w": ["x"], "bad": [1]}, "f: line 1")
    assert record.number("n") == 1.5
    assert record.words("l", ",") == ["a", "b"]
    assert record.words("w") == ["x"]
    for field in ("t", "w", "absent"):
        with pytest.raises(InputError, match="f: line 1"):
            record.text(field)
    for field in ("bad", "n", "absent"):
        with pytest.raises(InputError, match="f: line 1"):
            record.words(field)
