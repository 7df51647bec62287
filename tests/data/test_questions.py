"""Questions in SQuAD's form: real files are read whole, answers stand where they say, and a bad one is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from lamoid.data.questions import read_questions
from lamoid.errors import InputError


def written(folder: Path, **entry: Any) -> Path:
    whole = {"question": "who?", "answers": [{"text": "she", "answer_start": 3}], **entry}
    tree = {"data": [{"paragraphs": [{"context": "so she said, and she left", "qas": [whole]}]}]}
    (folder / "q.json").write_text(json.dumps(tree))
    return folder / "q.json"


def test_an_answer_stands_where_it_says(tmp_path: Path) -> None:
    (entry,), remarks = read_questions([written(tmp_path)])
    assert entry.answers == (("she", 3),)
    assert not remarks
    (entry,), _ = read_questions([written(tmp_path, is_impossible=True, answers=[])])
    assert entry.answers == ()


@pytest.mark.parametrize("start", [0, 4, 15, -1, 23, 10**9, None, "3", True])
def test_an_answer_elsewhere_is_refused_or_mended(start: Any, tmp_path: Path) -> None:
    path = written(tmp_path, answers=[{"text": "she", "answer_start": start}])
    with pytest.raises(InputError, match=r"qas\[0\].answers\[0\].answer_start"):
        read_questions([path])
    if type(start) is int:
        (entry,), remarks = read_questions([path], offsets="nearest")
        assert entry.answers == (("she", 3 if start < 10 else 17),)
        assert "1 answers" in remarks[0]


@pytest.mark.parametrize(
    "entry",
    [
        {"answers": []},
        {"answers": [{"text": "", "answer_start": 0}]},
        {"answers": "she"},
        {"question": ""},
        {"question": None},
    ],
)
def test_a_bad_question_is_named(entry: dict, tmp_path: Path) -> None:
    path = written(tmp_path, **entry)
    with pytest.raises(InputError, match=r"q\.json: data\[0\].paragraphs\[0\].qas\[0\]"):
        read_questions([path], offsets="nearest")


def test_an_answer_that_stands_nowhere_is_refused_or_left_out(tmp_path: Path) -> None:
    absent, there = {"text": "he", "answer_start": 1}, {"text": "she", "answer_start": 3}
    path = written(tmp_path, answers=[{**absent, "text": "he who is not there"}, there])
    with pytest.raises(InputError, match=r"answers\[0\].answer_start"):
        read_questions([path])
    (entry,), remarks = read_questions([path], offsets="nearest")
    assert entry.answers == (("she", 3),)
    assert "1 answers stand nowhere" in remarks[0]
    with pytest.raises(InputError, match="holds no question"):
        read_questions([written(tmp_path, answers=[{**absent, "text": "nobody"}])], offsets="nearest")


def test_real_files_are_read_whole(data_folder: Path) -> None:
    """xquad's offsets are exact; eight of cmrc2018's are not, and stand nearby."""
    for language in ("en", "zh", "de"):
        found, remarks = read_questions([data_folder / f"xquad/xquad.{language}.json"])
        assert len(found) == 1190
        assert not remarks
    path = data_folder / "cmrc2018_zh/cmrc2018_dev.json"
    with pytest.raises(InputError, match="answer_start"):
        read_questions([path])
    found, remarks = read_questions([path], offsets="nearest")
    assert 3219 - 8 <= len(found) <= 3219
    assert all("offsets" not in remark and str(path) in remark for remark in remarks)
    assert all(entry.text[at : at + len(said)] == said for entry in found for said, at in entry.answers)
