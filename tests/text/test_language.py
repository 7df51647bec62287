"""The detector on the Universal Declaration of Human Rights, which it was not made from."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from lamoid.text.language import FUNCTION_WORDS, UNKNOWN, detect_language, function_words, known_languages

FILES = (
    "eng:en deu_1901:de fra:fr spa:es ita:it por_PT:pt nld:nl swe:sv dan:da nob:no fin:fi pol:pl ces:cs ron_1993:ro "
    "hun:hu tur:tr ind:id vie:vi cat:ca hrv:hr slk:sk lat:la rus:ru ukr:uk bel:be bul:bg srp_cyrl:sr arb:ar pes_1:fa "
    "urd:ur hin:hi mar:mr nep:ne cmn_hans:zh cmn_hant:zh jpn:ja kor:ko ell_monotonic:el heb:he tha:th kat:ka hye:hy "
    "ben:bn tam:ta amh:am"
)


@pytest.fixture(scope="module")
def declarations(data_folder: Path) -> dict[str, str]:
    with zipfile.ZipFile(data_folder / "nltk" / "udhr2" / "udhr2.zip") as packed:
        names = [name for name in packed.namelist() if name.endswith(".txt")]
        return {Path(name).stem: packed.read(name).decode() for name in names}


def test_whole_declarations_and_their_articles(declarations: dict[str, str]) -> None:
    right = total = 0
    for pair in FILES.split():
        name, _, language = pair.partition(":")
        text = declarations[name]
        assert detect_language(text)[0] == language
        least = 30 if language in ("zh", "ja") else 120
        said = [detect_language(part)[0] for part in text.split("\n") if len(part) > least]
        right += sum(word == language for word in said)
        total += len(said)
    assert total > 1500
    assert right / total > 0.97


def test_most_languages_that_are_not_known_are_said_to_be_unknown(declarations: dict[str, str]) -> None:
    known = {pair.partition(":")[0].split("_")[0] for pair in FILES.split()}
    others = Counter(detect_language(text)[0] for name, text in declarations.items() if name.split("_")[0] not in known)
    assert others.total() > 250
    assert others[UNKNOWN] / others.total() > 0.75


def test_what_has_no_words_is_unknown() -> None:
    for text in ("", "  ", "123 456", "xqz wvk pfft", "!!!"):
        assert detect_language(text) == (UNKNOWN, 0.0)


def test_mixed_text_is_less_certain() -> None:
    english = "the house that we have is not in the town but it is on the hill "
    alone, mixed = (
        detect_language(english)[1],
        detect_language(english + "der Hund ist nicht mit der Katze und das ist")[1],
    )
    assert 0 < mixed < alone <= 1


def test_tables_hold_each_word_once_in_small_letters() -> None:
    for languages in FUNCTION_WORDS.values():
        for language, words in languages.items():
            assert len(set(words.split())) == len(words.split())
            assert words == words.lower()
            assert function_words(language) == frozenset(words.split())
            assert language in known_languages()
    assert function_words("xx") == frozenset()
