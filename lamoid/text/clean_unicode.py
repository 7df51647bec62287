"""Text that was decoded wrongly is repaired; characters that steer a terminal or hide text are removed."""

import re
import unicodedata

from lamoid.errors import InputError

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,16}[@-~]|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)|[@-Z\\^_])")
# Zero-width joiner and non-joiner stay: Persian, Hindi and emoji need them.
_HIDDEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff"
    "\\ufff0-\\ufffb\\ufdd0-\\ufdef\\ufffe\\uffff\\U000e0000-\\U000e007f]+"
)
_LOST = re.compile("[�\ud800-\udfff]")


def require_ftfy() -> None:
    """Raise ``InputError`` if what repairs text is not installed."""
    try:
        import ftfy  # noqa: F401
    except ImportError as error:
        cure = "install it: pip install 'lamoid[data]', or switch the rule off: --set unicode.on=false"
        raise InputError("unicode", "needs ftfy, which is not installed", cure) from error


def repair_unicode(text: str) -> str:
    """Undo wrong decoding (UTF-8 read as Latin-1, Windows-1252 and their like), join surrogates, compose (NFC).

    What is right stays: wide forms, ligatures and quotation marks mean something in some language.
    """
    if text.isascii():
        return text
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return unicodedata.normalize("NFC", ftfy.fix_text(text, config))


def lost_share(text: str) -> float:
    """Give the share of characters that stand for a lost one: U+FFFD and surrogates without a partner."""
    return len(_LOST.findall(text)) / max(1, len(text))


def strip_controls(text: str) -> str:
    """Remove control characters but tab and newline, terminal escapes, soft hyphens, direction and zero-width marks.

    CR LF, CR, U+0085, U+2028 and U+2029 become newlines.
    """
    text = _ESCAPE.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n")
    text = text.replace("\u2028", "\n").replace("\u2029", "\n\n")
    return _HIDDEN.sub("", text)
