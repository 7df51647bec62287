"""Sentences with tags: CoNLL and rows are the same, real files are read whole, and a bad line is named."""

import json
from pathlib import Path

import pytest

from lamoid.data.tagged import read_tagged
from lamoid.errors import InputError

CONLL = "-DOCSTART-\tO\n\nEU\tB-ORG\nrejects\tO\n\n\nPeter\tB-PER\nBlackburn\tI-PER"
SENTENCES = [(("EU", "rejects"), ("B-ORG", "O")), (("Peter", "Blackburn"), ("B-PER", "I-PER"))]


def test_conll_and_rows_are_the_same(tmp_path: Path) -> None:
    conll, rows, spaced = tmp_path / "a.conll", tmp_path / "a.jsonl", tmp_path / "b.txt"
    conll.write_text(CONLL)
    spaced.write_text(CONLL.replace("\t", " NN x ").replace("\n", "\r\n"))
    rows.write_text("\n".join(json.dumps({"words": words, "tags": tags}) for words, tags in SENTENCES))
    for path in (conll, rows, spaced):
        assert [(entry.words, entry.tags) for entry in read_tagged([path])] == SENTENCES
    assert [entry.name for entry in read_tagged([conll])] == [f"{conll}: line 3", f"{conll}: line 7"]


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.conll", "EU\tB-ORG\nrejects\n", "line 2"),
        ("a.conll", "\n\n", "no sentence"),
        ("a.jsonl", '{"words": ["a"], "tags": ["O", "O"]}', "has 1 words and 2 tags"),
        ("a.jsonl", '{"words": [], "tags": []}', "no word"),
        ("a.jsonl", '{"words": [" "], "tags": ["O"]}', "white space"),
        ("a.jsonl", '{"words": ["a"]}', "no field 'tags'"),
    ],
)
def test_a_bad_sentence_is_named(name: str, text: str, where: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=where):
        read_tagged([tmp_path / name])


def test_real_files_are_read_whole(data_folder: Path) -> None:
    """The counts are those that the data sets state."""
    assert len(read_tagged([data_folder / "ner_en/wnut17/train.conll"])) == 3394
    assert len(read_tagged([data_folder / "ner_zh_weibo/weiboNER_2nd_conll.train"])) == 1350
