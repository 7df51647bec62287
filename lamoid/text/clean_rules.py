"""What may be asked of the cleaning of text: one table a rule, in the order of their use, each switched by ``on``."""

from typing import Literal

import msgspec

from lamoid.errors import InputError

_MOST = 2**40


def _share(field: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InputError(field, f"is {value}, must lie from 0 to 1", "write a share")


def _whole(field: str, value: int, low: int, high: int = _MOST) -> None:
    if not low <= value <= high:
        raise InputError(field, f"is {value}, must lie from {low} to {high}", "mend the number")


class EncodingRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says what becomes of bytes in a file that are no UTF-8 text, or NUL, while it is read.

    ``refuse`` ends the cleaning there, ``replace`` puts U+FFFD in their place, ``skip`` leaves them out. Where the rule
    is off they are refused. Text in UTF-16 or UTF-32 that says so is always refused.
    """

    on: bool = True
    errors: Literal["refuse", "replace", "skip"] = "refuse"


class UnicodeRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Repairs text that was decoded wrongly, and drops a document whose characters are lost beyond that share."""

    on: bool = True
    most_lost: float = 0.01  # share of U+FFFD and of unpaired surrogates that stay

    def __post_init__(self) -> None:
        _share("unicode.most_lost", self.most_lost)


class ControlsRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Removes control, direction and zero-width characters and terminal escapes; ends of lines become newlines."""

    on: bool = True


class MarkupRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Removes HTML (tags, comments, scripts; entities are decoded) and, with ``wiki``, the markup of MediaWiki.

    The latter only of a document that shows two kinds of it, for programs and TeX have brackets and quotes too.
    """

    on: bool = True
    wiki: bool = True


class LengthRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drops what is too short or too long, counted without white space around; 0 stands for no upper limit."""

    on: bool = True
    least_characters: int = 20
    most_characters: int = 0
    least_words: int = 0
    most_words: int = 0

    def __post_init__(self) -> None:
        for unit in ("characters", "words"):
            least, most = getattr(self, f"least_{unit}"), getattr(self, f"most_{unit}")
            _whole(f"length.least_{unit}", least, 0)
            _whole(f"length.most_{unit}", most, 0)
            if 0 < most < least:
                raise InputError(f"length.most_{unit}", f"is {most}, below least_{unit} {least}", "raise it")


class LanguageRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keeps the languages of ``keep`` (none named: all); what cannot be told is kept only with ``und`` among them."""

    on: bool = True
    keep: tuple[str, ...] = ()
    least: float = 0.0  # certainty, from 0 to 1, below which the language counts as unknown

    def __post_init__(self) -> None:
        _share("language.least", self.least)


class RepetitionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drops text that repeats itself: the limits of MassiveText (Rae et al. 2021, arXiv:2112.11446, table A1).

    ``lines`` and ``paragraphs`` limit the share of repeated ones, ``*_characters`` the share of characters in them,
    ``top`` that of the commonest run of 2, 3 and 4 words, ``runs`` that of all repeated runs of 5 to 10 words. Texts of
    fewer than ``least_words`` words are let through by ``top`` and ``runs``.
    """

    on: bool = True
    lines: float = 0.30
    paragraphs: float = 0.30
    line_characters: float = 0.20
    paragraph_characters: float = 0.20
    top: tuple[float, float, float] = (0.20, 0.18, 0.16)
    runs: tuple[float, float, float, float, float, float] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
    least_words: int = 50

    def __post_init__(self) -> None:
        for name in ("lines", "paragraphs", "line_characters", "paragraph_characters"):
            _share(f"repetition.{name}", getattr(self, name))
        for name in ("top", "runs"):
            for value in getattr(self, name):
                _share(f"repetition.{name}", value)
        _whole("repetition.least_words", self.least_words, 0)


class ExactRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drops a document whose text an earlier one had, but for case, white space and compatibility forms (NFKC)."""

    on: bool = True


class NearRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drops a document whose runs of words are, to that share (Jaccard's), those of an earlier one that was kept.

    Runs (shingles) have ``words`` words, or ``characters`` characters in scripts without spaces; the share is
    estimated from ``hashes`` least hashes (Broder 1997).
    """

    on: bool = True
    share: float = 0.8
    hashes: int = 128
    words: int = 5
    characters: int = 5

    def __post_init__(self) -> None:
        _share("near.share", self.share)
        if self.share < 0.1:
            raise InputError("near.share", f"is {self.share}, must be 0.1 or more", "0.8 is usual")
        if self.hashes not in (16, 32, 64, 128, 256, 512):
            raise InputError("near.hashes", f"is {self.hashes}", "choose 16, 32, 64, 128, 256 or 512")
        _whole("near.words", self.words, 1, 100)
        _whole("near.characters", self.characters, 1, 100)


class LowercaseRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turns letters into small letters; for word models."""

    on: bool = False


class SegmentRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Puts one space between two words: Chinese ones by a dictionary, punctuation off words; for word models."""

    on: bool = False
    punctuation: bool = True  # whether it stays


class StopWordsRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Removes the function words of ``languages`` and the ``words`` named; for word models, after segmentation."""

    on: bool = False
    languages: tuple[str, ...] = ("en",)
    words: tuple[str, ...] = ()


class CleanSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules, in the order in which they are applied."""

    encoding: EncodingRule = EncodingRule()
    unicode: UnicodeRule = UnicodeRule()
    controls: ControlsRule = ControlsRule()
    markup: MarkupRule = MarkupRule()
    length: LengthRule = LengthRule()
    language: LanguageRule = LanguageRule()
    repetition: RepetitionRule = RepetitionRule()
    exact: ExactRule = ExactRule()
    near: NearRule = NearRule()
    lowercase: LowercaseRule = LowercaseRule()
    segment: SegmentRule = SegmentRule()
    stop_words: StopWordsRule = StopWordsRule()
