"""Faults of every kind planted into sound text: all are found, each by its rule, whatever the number of processes."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lamoid.data import clean as module
from lamoid.data import cleaning_workers
from lamoid.data.clean import Tally, clean
from lamoid.data.sources import Document
from lamoid.errors import InputError
from lamoid.text.clean_rules import CleanSpec, LanguageRule

ENGLISH = "the of and to in a is that for it with was on by are this from which have not but they their will would"
NOUNS = "river stone market window garden letter winter engine island teacher bridge copper forest mirror violin"
GERMAN = "Der Hund ist nicht mit der Katze auf dem Dach und das Kind hat ein Buch für die Mutter von dem Mann. "
KEEP_ENGLISH = CleanSpec(language=LanguageRule(keep=("en",)))


def sound(draw: random.Random, words: int = 120) -> str:
    """English in its words and their order of frequency alone; no two of them have a run of five words in common."""
    pool = ENGLISH.split() + NOUNS.split() + [f"{noun}{draw.randrange(1000)}" for noun in NOUNS.split()]
    lines = [" ".join(draw.choice(pool) for _ in range(12)).capitalize() + "." for _ in range(words // 12)]
    return "\n".join(lines)


def planted(draw: random.Random) -> list[tuple[str, str, str]]:
    """Each kind of fault five times: the rule that must find it, what it must do, and the text."""
    kinds = []
    for _ in range(5):
        text, other, third = (sound(draw) for _ in range(3))
        kinds += [
            ("unicode", "changed", (text + " schön und “naïve”").encode().decode("cp1252", errors="replace")),
            ("unicode", "dropped", text[:300].replace("e", "�")),
            ("controls", "changed", other[:50] + "\x1b[31m\x00\u202e" + other[50:]),
            ("markup", "changed", f"<p>{third}</p> &amp; <b>more</b>"),
            ("markup", "dropped", "<div><br/></div>"),
            ("length", "dropped", text[:15]),
            ("language", "dropped", GERMAN * 3),
            ("repetition", "dropped", (text.split("\n")[0] + "\n") * 12),
            ("repetition", "dropped", sound(draw) + " " + "buy now " * 60),
            ("exact", "dropped", ""),
            ("near", "dropped", ""),
        ]
    return kinds


@pytest.fixture(scope="module")
def corpus() -> tuple[list[Document], dict[tuple[str, str], int]]:
    draw = random.Random(11)
    originals = [sound(draw, 360) for _ in range(60)]
    documents = [("", "", text) for text in originals]
    expected: dict[tuple[str, str], int] = {}
    for rule, what, text in planted(draw):
        if rule == "exact":
            text = "  " + originals[expected.get((rule, what), 0)].upper().replace(" ", "  ")
        if rule == "near":
            text = originals[10 + expected.get((rule, what), 0)].replace(".", "!", 3) + " One more line."
        documents.append((rule, what, text))
        expected[rule, what] = expected.get((rule, what), 0) + 1
    head, tail = documents[:60], documents[60:]
    draw.shuffle(tail)
    return [Document(f"{rule}:{what}:{n}", text) for n, (rule, what, text) in enumerate(head + tail)], expected


def run(documents: list[Document], spec: CleanSpec, workers: int = 1) -> tuple[list[Document], Tally]:
    tally = Tally.of(spec)
    return list(clean(documents, spec, tally, workers=workers)), tally


def test_every_planted_fault_is_found_by_its_rule_and_nothing_else_is(corpus) -> None:
    documents, expected = corpus
    kept, tally = run(documents, KEEP_ENGLISH)
    for (rule, what), count in expected.items():
        assert getattr(tally.rules[rule], what) >= count, (rule, what)
        assert {d.name for d in kept if d.name.startswith(f"{rule}:dropped")} == set()
    assert {rule: tally.rules[rule].dropped for rule in tally.rules} == {
        rule: expected.get((rule, "dropped"), 0) for rule in tally.rules
    }
    assert [d.name for d in kept[:60]] == [d.name for d in documents[:60]]
    assert [d.text for d in kept[:60]] == [d.text for d in documents[:60]]
    changed = [d for d in kept if ":changed:" in d.name]
    assert len(changed) == sum(count for (_, what), count in expected.items() if what == "changed")
    for document in changed:
        assert not any(mark in document.text for mark in ("\x1b", "\x00", "\u202e", "<p>", "&amp;", "Ã"))


def test_the_tally_adds_up(corpus) -> None:
    documents, _ = corpus
    kept, tally = run(documents, KEEP_ENGLISH)
    assert tally.documents == len(documents)
    assert tally.kept == len(kept)
    assert tally.documents - tally.kept == sum(rule.dropped for rule in tally.rules.values())
    assert tally.characters == sum(len(d.text) for d in documents)
    assert tally.kept_characters == sum(len(d.text) for d in kept)
    assert tally.characters - tally.kept_characters == sum(rule.characters for rule in tally.rules.values())
    for rule in tally.rules.values():
        assert len(rule.drops) == min(3, rule.dropped)
        assert len(rule.changes) == min(3, rule.changed)
        assert all(len(text) <= 80 for pair in rule.changes for text in pair)
        assert all(len(text) <= 80 and reason for text, reason in rule.drops)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_processes_changes_nothing(corpus, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 3000)
    alone, one = run(corpus[0], KEEP_ENGLISH)
    together, many = run(corpus[0], KEEP_ENGLISH, workers)
    assert together == alone
    assert many == one


def test_each_rule_can_be_switched_off(corpus) -> None:
    for rule in KEEP_ENGLISH.__struct_fields__:
        table = msgspec.structs.replace(getattr(KEEP_ENGLISH, rule), on=False)
        _, tally = run(corpus[0][50:], msgspec.structs.replace(KEEP_ENGLISH, **{rule: table}))
        assert rule not in tally.rules


def test_with_every_rule_off_every_document_stays(corpus) -> None:
    off = {rule: msgspec.structs.replace(getattr(CleanSpec(), rule), on=False) for rule in CleanSpec.__struct_fields__}
    assert run(corpus[0], CleanSpec(**off))[0] == corpus[0]


def test_word_models_get_small_words_without_stop_words() -> None:
    on = {name: msgspec.structs.replace(getattr(CleanSpec(), name), on=True) for name in ("lowercase", "segment")}
    stop = msgspec.structs.replace(CleanSpec().stop_words, on=True, languages=("en", "zh"), words=("River",))
    spec = CleanSpec(**on, stop_words=stop)
    documents = [
        Document("en", "The River and THE stone, in winter: cold!"),
        Document("zh", "我来到北京清华大学的图书馆，" * 3),
    ]
    kept, tally = run(documents, spec)
    assert kept[0].text == "stone , winter : cold !"
    assert kept[1].text == " ".join(["来到 北京 清华大学 图书馆 ，"] * 3)
    assert [tally.rules[rule].changed for rule in ("lowercase", "segment", "stop_words")] == [1, 2, 2]


def test_of_equal_documents_the_first_is_kept() -> None:
    draw = random.Random(3)
    one, other = sound(draw), sound(draw)
    documents = [Document(str(n), text) for n, text in enumerate([one, other, one, one.upper(), other + " End."])]
    kept, tally = run(documents, CleanSpec())
    assert [d.name for d in kept] == ["0", "1"]
    assert (tally.rules["exact"].dropped, tally.rules["near"].dropped) == (2, 1)


def test_documents_are_read_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 1000)
    read = []

    def endless() -> Iterator[Document]:
        draw = random.Random(1)
        while True:
            read.append(1)
            yield Document(str(len(read)), sound(draw))

    spec = CleanSpec()
    for workers in (1, 2):
        read.clear()
        found = clean(endless(), spec, Tally.of(spec), workers=workers)
        for _ in range(10):
            next(found)
        found.close()
        assert len(read) < 40


def test_a_document_too_long_to_be_held_is_refused() -> None:
    with pytest.raises(InputError, match=r"book: is a document of more than .* characters.*separator"):
        run([Document("book", "x", ends=False)], CleanSpec())


def test_what_cannot_be_cleaned_so_is_refused_before_anything_is_read() -> None:
    def unread() -> Iterator[Document]:
        pytest.fail("read")
        yield

    for spec, workers, match in (
        (CleanSpec(language=LanguageRule(keep=("xx",))), 1, "language.keep: 'xx' cannot be told"),
        (
            CleanSpec(stop_words=msgspec.structs.replace(CleanSpec().stop_words, languages=("xx",))),
            1,
            "no list for 'xx'",
        ),
        (CleanSpec(), 0, "workers: is 0"),
    ):
        with pytest.raises(InputError, match=match):
            next(clean(unread(), spec, Tally.of(spec), workers=workers))


def test_a_process_that_dies_is_reported_and_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = cleaning_workers._start

    def start(spec: CleanSpec) -> subprocess.Popen[bytes]:
        started.append(real(spec))
        return started[-1]

    monkeypatch.setattr(cleaning_workers, "_start", start)
    monkeypatch.setattr(module, "_BATCH", 500)
    draw = random.Random(2)

    def documents() -> Iterator[Document]:
        for number in range(200):
            if number == 20:
                started[0].kill()
                started[0].wait()
            yield Document(str(number), sound(draw))

    with pytest.raises(RuntimeError, match="ended with status -9"):
        list(clean(documents(), CleanSpec(), Tally.of(CleanSpec()), workers=2))
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_a_process_ends_with_its_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lamoid.data.cleaning_worker"]
    for given in (b"", b"\x05", (5).to_bytes(8, "little") + b"ab", (1).to_bytes(8, "little") + b"\x80"):
        done = subprocess.run(command, input=given, capture_output=True, check=False, env={**os.environ})
        assert (done.returncode, done.stdout) == (0, b"")
