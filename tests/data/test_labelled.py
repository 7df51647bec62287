"""Labelled texts from tables, JSON lines and folders: the same texts from every form, and errors that name the line."""

import csv
import json
from pathlib import Path

import pytest

from lamoid.data.labelled import Labelled, hold_out, number_labels, read_labelled
from lamoid.errors import InputError

TEXTS = [('Good, "really" good', "pos"), ("dull; very dull", "neg"), ("好看", "pos"), ("a, b", "neg")]


def write(folder: Path, form: str) -> Path:
    path = folder / f"texts.{form}"
    if form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("label", "text"), *((label, text) for text, label in TEXTS)])
    elif form == "tsv":
        rows = [("id", "text", "label"), *((str(n), *pair) for n, pair in enumerate(TEXTS))]
        path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    elif form == "jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in TEXTS]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        for number, (text, label) in enumerate(TEXTS):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{number}.txt").write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "folder"])
def test_every_form_gives_the_same_texts_and_labels(form: str, tmp_path: Path) -> None:
    found = read_labelled(write(tmp_path, form))
    assert sorted((entry.text, entry.label) for entry in found) == sorted(TEXTS)


def test_csv_reads_what_pythons_own_writer_writes(tmp_path: Path) -> None:
    rows = [('"quoted", with\nan end of line', "a"), ("tab\there", "b"), ("long " * 60_000, "a")]
    path = tmp_path / "texts.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, lineterminator="\r\n").writerows([("text", "label"), *rows])
    assert [(entry.text, entry.label) for entry in read_labelled(path)] == rows
    assert csv.field_size_limit() == 131072


def test_columns_may_be_counted(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text('to category\tone "text\tlaw\nto category\tanother\tart\n', encoding="utf-8")
    found = read_labelled(path, text="2", label="3")
    assert [(entry.text, entry.label, entry.name) for entry in found] == [
        ('one "text', "law", f"{path}: line 1"),
        ("another", "art", f"{path}: line 2"),
    ]


def test_json_labels_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"said": "x", "stars": 1}\n{"said": "y", "stars": 0}\n')
    assert [entry.label for entry in read_labelled(path, text="said", label="stars")] == ["1", "0"]


@pytest.mark.parametrize(
    ("name", "content", "culprit", "problem"),
    [
        ("t.tsv", "a\tb\nx\ty\n", "t.tsv", "no single column 'text', only a, b"),
        ("t.tsv", "text\ttext\tlabel\nx\ty\tz\n", "t.tsv", "no single column 'text'"),
        ("t.tsv", "text\tlabel\nx\ty\tz\n", "t.tsv: line 2", "has 3 columns, not 2"),
        ("t.tsv", "text\tlabel\nx\n", "t.tsv: line 2", "has 1 columns, not 2"),
        ("t.tsv", "text\tlabel\n", "t.tsv", "holds no text with a label"),
        ("t.tsv", "", "t.tsv", "no single column 'text', only nothing"),
        ("t.tsv", "text\tlabel\n \ty\n", "t.tsv: line 2", "has a text of nothing but white space"),
        ("t.tsv", "text\tlabel\nx\t\n", "t.tsv: line 2", "has a label of nothing"),
        ("t.csv", 'text,label\n"x,y\n', "t.csv: line 2", "is no CSV"),
        ("t.csv", 'text,label\nx,"y" z\n', "t.csv: line 2", "is no CSV"),
        ("t.jsonl", "{\n", "t.jsonl: line 1", "JSON"),
        ("t.jsonl", "[1]\n", "t.jsonl: line 1", "is no JSON object"),
        ("t.jsonl", '{"text": "x"}\n', "t.jsonl: line 1", "has no field 'label', only text"),
        ("t.jsonl", '{"text": 3, "label": "y"}\n', "t.jsonl: line 1", "'text' is '3', no text"),
        ("t.jsonl", '{"text": "x", "label": [1]}\n', "t.jsonl: line 1", "'label' is '\\[1\\]'"),
        ("t.jsonl", '{"text": "x", "label": 1.5}\n', "t.jsonl: line 1", "'label' is '1.5'"),
        ("t.txt", "x", "t.txt", "ends with '.txt'"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, content: str, culprit: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        read_labelled(path)
    assert caught.value.culprit == str(tmp_path / culprit)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"text,label\n\xff,y\n")
    with pytest.raises(InputError, match=r"is not UTF-8: .* at byte offset 11"):
        read_labelled(path)
    with pytest.raises(InputError, match="there is no such file"):
        read_labelled(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no text with a label"):
        read_labelled(tmp_path)
    with pytest.raises(InputError, match=r"a column is called 0\. Count columns from 1"):
        read_labelled(write(tmp_path, "tsv"), text="0", label="1")


def test_texts_are_held_out_by_their_hash_alone() -> None:
    texts = [Labelled(f"text {number % 900}", "x", str(number)) for number in range(1000)]
    train, test = hold_out(texts, 0.2)
    assert len(train) + len(test) == 1000
    assert 0.15 < len(test) / 1000 < 0.25
    assert {entry.text for entry in train}.isdisjoint({entry.text for entry in test})
    turned = hold_out(texts[500:] + texts[:500], 0.2)[1]
    assert {entry.text for entry in turned} == {entry.text for entry in test}
    assert {entry.text for entry in hold_out(texts[:100], 0.2)[1]} <= {entry.text for entry in test}
    with pytest.raises(InputError, match="leaves nothing on one side"):
        hold_out(texts[:1], 0.2)


def test_labels_are_numbered_in_their_order() -> None:
    train = [Labelled("a", label, "train") for label in ("law", "art", "law")]
    assert number_labels(train, train[:1]) == (("art", "law"), [1, 0, 1], [1])
    with pytest.raises(InputError, match="test: has the label 'x', which no text to train on has"):
        number_labels(train, [Labelled("a", "x", "test")])
    with pytest.raises(InputError, match="all texts have the label 'law'"):
        number_labels(train[:1], [])
