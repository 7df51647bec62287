"""Words of any script, cut and counted."""

import os
import tempfile
from pathlib import Path

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.text import clean_words
from lamoid.text.clean_words import RUNS, is_unspaced, remove_words, segment, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a well-known fact: 3.14, or 2,000!", ["It's", "a", "well-known", "fact", "3.14", "or", "2,000"]),
        ("你好 world", ["你", "好", "world"]),
        ("カタカナ", list("カタカナ")),
        ("मानवता के लिए। हाँ", ["मानवता", "के", "लिए", "हाँ"]),
        ("tiếng Việt", ["tiếng", "Việt"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("... — !", []),
    ],
)
def test_words_of_every_script(text: str, words: list[str]) -> None:
    assert words_of(text) == words
    assert is_unspaced(words) == ((len(words) > 0 and all(len(word) == 1 for word in words)) or "好" in words)


@pytest.mark.parametrize("part", ["a\u0902", "a-", "a1\u0902-"])
def test_a_word_without_end_is_cut_and_nothing_of_it_is_lost(part: str) -> None:
    words = words_of(part * 5000)
    assert words[0] == part * (RUNS // 2) if part == "a\u0902" else words[0].startswith(part * RUNS)
    assert 5 < len(words) < 100
    assert "".join(words).replace("-", "") == (part * 5000).replace("-", "")


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_segmenting_twice_is_segmenting_once_for_what_has_spaces(text: str) -> None:
    latin = "".join(c for c in text if ord(c) < 0x250)
    once = segment(latin, punctuation=True)
    assert segment(once, punctuation=True) == once
    assert "".join(once.split()) == "".join(latin.split())


def test_chinese_is_cut_as_jieba_cuts_it() -> None:
    text = "我来到北京清华大学读书"
    assert segment(text, punctuation=True) == " ".join(jieba.Tokenizer().cut(text))
    assert segment("他说：“你好。”", punctuation=False) == "他 说 你好"
    assert segment("one, two\n你好ok", punctuation=True) == "one , two\n你好 ok"


def test_the_dictionary_trusts_nobodys_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps a cache of marshalled objects under a name that anybody may take in a shared folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(b"planted")
    os.utime(tmp_path / "jieba.cache", (2**32, 2**32))
    clean_words._jieba.cache_clear()
    assert segment("北京大学", punctuation=True) == "北京大学"
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]
    assert (tmp_path / "jieba.cache").read_bytes() == b"planted"


def test_stop_words_go_whatever_their_case() -> None:
    assert remove_words("The cat and THE dog\nand a bird", {"the", "and", "a"}) == "cat dog\nbird"
    assert remove_words("the and", {"the", "and"}) == ""
