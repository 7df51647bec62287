"""Wrong decoding undone, control characters removed, and right text left alone."""

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.text.clean_unicode import lost_share, repair_unicode, require_ftfy, strip_controls

RIGHT = [
    "schön, naïve, Łódź — “quoted” ‘so’",
    "中文，全角ＡＢＣ１２３。「引號」",
    "ﬁ ligature, ½, ①",
    "日本語カタカナ",
    "عربي فارسی",
]


@pytest.mark.parametrize("text", RIGHT)
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252", "mac_roman"])
def test_utf8_read_as_something_else_is_repaired(text: str, wrong: str) -> None:
    """Where each byte of the text means a character in the wrong encoding, and enough of them look wrong."""
    try:
        broken = text.encode().decode(wrong)
    except UnicodeDecodeError:
        return
    assert repair_unicode(broken) == text


@pytest.mark.parametrize("text", RIGHT)
def test_right_text_stays(text: str) -> None:
    assert repair_unicode(text) == text


def test_letters_and_marks_are_composed_and_surrogates_joined() -> None:
    assert repair_unicode("e\u0301") == "é"
    assert repair_unicode("\ud83d\ude00") == "😀"
    assert lost_share(repair_unicode("ab\ud83d")) == pytest.approx(1 / 3)
    assert lost_share("") == 0


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_what_is_left_holds_no_control_character(text: str) -> None:
    left = strip_controls(text)
    assert [c for c in left if unicodedata.category(c) == "Cc" and c not in "\t\n"] == []
    assert not re.search("[\u2028\u2029\ufeff\u200b\u202a-\u202e\u2066-\u2069]", left)
    assert strip_controls(left) == left


@given(st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs")), max_size=60))
def test_letters_numbers_punctuation_and_spaces_stay(text: str) -> None:
    assert strip_controls(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x1b[1;31mred\x1b[0m b", "ared b"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\r\nb\rc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\n\nf"),
        ("a\x00b\x08c\x7fd\x9fe", "abcde"),
        ("soft\xadhyphen zero\u200bwidth\ufeff", "softhyphen zerowidth"),
        ("user\u202egnp.exe\u202c", "usergnp.exe"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("می\u200cخواهم 👩\u200d💻", "می\u200cخواهم 👩\u200d💻"),
        ("tab\tstays\n", "tab\tstays\n"),
    ],
)
def test_each_kind_of_control_is_removed(text: str, left: str) -> None:
    assert strip_controls(text) == left


def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(InputError, match=r"needs ftfy.*pip install 'lamoid\[data\]'.*unicode.on=false"):
        require_ftfy()
