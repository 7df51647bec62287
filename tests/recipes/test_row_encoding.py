"""How rows become tokens: tags on the words' first tokens, answers where they stand, and packed chats as alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.data.chats import Chat
from lamoid.data.questions import Question, read_questions
from lamoid.data.tagged import Tagged, read_tagged
from lamoid.errors import InputError
from lamoid.recipes.row_data import RowData, cut_pair, cut_single
from lamoid.recipes.span_table import SpansTable
from lamoid.recipes.tag_table import TagsTable
from lamoid.recipes.text_answers import Answered, ClassesTable
from lamoid.recipes.train import train
from lamoid.recipes.written_tables import ChatTable, Pair, SequenceTable
from lamoid.text.chat_tokenizer import with_template
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

WORDS = ["alpha", "be", "gamma-delta", "x", "Übermut", "é", "don't", "42"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_template(train_tokenizer([" ".join(WORDS) * 40], kind="bytes", vocab=330), "chatml", may_grow=True)


def data(tokenizer: Tokenizer, names: tuple[str, ...] = (), *, source: bool = False) -> RowData:
    return RowData(tokenizer, [], None, names, source)


def drawn_words(count: int) -> list[str]:
    return [str(word) for word in np.random.default_rng(int(torch.randint(1 << 30, ()))).choice(WORDS, count)]


def test_rows_are_known_by_what_they_say_and_not_by_where_they_lie(tokenizer: Tokenizer) -> None:
    def identity(*rows: object) -> dict[str, Any]:
        return RowData(tokenizer, list(rows), list(rows)).identity()

    said = [{"role": "user", "content": "x", "name": "Ann"}]
    rows = [Tagged(("a", "b"), ("X", "Y"), "here:1"), Chat(said, {}, "here:2"), Pair("a", "b", "here:3")]
    moved = [replace(row, name="there:9") for row in rows]
    assert identity(*rows) == identity(*moved)
    other = [{"role": "user", "content": "x", "name": "Bob"}]
    changed = [replace(rows[0], tags=("X", "X")), replace(rows[1], messages=other), replace(rows[2], target="c")]
    found = [identity(*rows[:at], row, *rows[at + 1 :]) for at, row in enumerate(changed)]
    assert all(each["train"] != identity(*rows)["train"] for each in found)
    assert identity(*rows[::-1]) != identity(*rows)


@pytest.mark.parametrize("joint", [" ", ""])
def test_a_tag_stands_at_the_first_token_of_its_word(joint: str, tokenizer: Tokenizer) -> None:
    entries = []
    for _ in range(20):
        words = drawn_words(6)
        entries.append(Tagged(tuple(words), tuple(f"T{WORDS.index(word)}" for word in words), "here"))
    names = tuple(f"T{number}" for number in range(len(WORDS)))
    held = data(tokenizer, names)
    rows = TagsTable(joint=joint).rows(entries, held, 200)
    for entry, ids, targets in zip(entries, rows.ids, rows.targets, strict=True):
        at = np.flatnonzero(targets != IGNORED)
        assert [names[number] for number in targets[at]] == [f"T{WORDS.index(w)}" for w in entry.words][: len(at)]
        if joint:
            assert len(at) == len(entry.words)
            pieces = [tokenizer.decode(ids[a:b]).strip() for a, b in zip(at, [*at[1:], len(ids)], strict=True)]
            assert pieces == list(entry.words)
        assert tokenizer.decode(ids) == joint.join(entry.words)


def test_words_beyond_the_context_are_counted(tokenizer: Tokenizer) -> None:
    held = data(tokenizer, ("A", "O"))
    TagsTable().rows([Tagged(("alpha",) * 30, ("A",) * 30, "here")], held, 10)
    assert "of 30 words" in held.remarks[0]


def test_an_answer_stands_where_it_was_said(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    entries = []
    for _ in range(30):
        words = drawn_words(int(rng.integers(5, 60)))
        text = " ".join(words)
        begin = int(rng.integers(0, len(words)))
        said = " ".join(words[begin : begin + 2])
        at = len(" ".join(words[:begin])) + (begin > 0)
        entries.append(Question(text, "which?", ((said, at),), "here"))
    table, held = SpansTable(overlap=24), data(tokenizer)
    rows = table.rows(entries, held, 64)
    windows = table._windows(entries, held, 64)
    seen = set()
    for window, ids, (first, last) in zip(windows, rows.ids, rows.targets.tolist(), strict=True):
        assert len(ids) <= 64
        if first:
            found = tokenizer.decode(ids[first : last + 1]).strip()
            assert found == entries[window.question].answers[0][0]
            seen.add(window.question)
    assert seen == set(range(30)), "with such an overlap, every answer is whole in some window"


def test_the_answers_of_real_texts_are_whole_in_a_window(data_folder: Path) -> None:
    for language in ("en", "zh"):
        entries, _ = read_questions([data_folder / f"xquad/xquad.{language}.json"])
        entries = entries[:60]
        made = train_tokenizer([entry.text for entry in entries], kind="bytes", vocab=2000)
        table, held = SpansTable(overlap=64), data(made)
        rows, windows = table.rows(entries, held, 192), table._windows(entries, held, 192)
        right = set()
        for window, ids, (first, last) in zip(windows, rows.ids, rows.targets.tolist(), strict=True):
            wanted = entries[window.question].answers[0][0]
            # A token may begin before the answer or end behind it: of bytes several characters share one.
            if first and wanted in made.decode(ids[first : last + 1]):
                right.add(window.question)
        assert len(right) >= 0.98 * len(entries)


def test_a_question_that_leaves_no_room_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"objective\.overlap"):
        SpansTable(overlap=128).rows([Question("alpha be", "x", (("be", 6),), "here")], data(tokenizer), 64)


def chats(count: int) -> list[Chat]:
    made = []
    for _ in range(count):
        messages: list[dict[str, Any]] = []
        for _ in range(int(np.random.default_rng(int(torch.randint(1 << 30, ()))).integers(1, 3))):
            messages.append({"role": "user", "content": " ".join(drawn_words(4))})
            messages.append({"role": "assistant", "content": " ".join(drawn_words(3))})
        made.append(Chat(messages, {}, "here"))
    return made


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_packed_chats_lose_what_they_lose_alone(family: str, tokenizer: Tokenizer) -> None:
    model = LanguageModel(Shape(family=family, width=32, layers=2, heads=2, context=256).spec(tokenizer.vocab))
    initialise(model, int(torch.randint(1 << 30, ())))
    entries = chats(9)
    objective = ChatTable().objective()
    sums = []
    for is_packed in (True, False):
        rows = ChatTable(pack=is_packed).rows(entries, data(tokenizer), 256)
        assert (len(rows) < 9) == is_packed
        term = objective.terms(model, rows.batch(torch.arange(len(rows))))["next_token"]
        sums.append((term.sum.item(), term.count))
    assert sums[0][1] == sums[1][1]
    assert sums[0][0] == pytest.approx(sums[1][0], rel=1e-5)


def test_only_answers_are_learnt_unless_all_is_wanted(tokenizer: Tokenizer) -> None:
    entries = chats(5)
    for answers_only in (True, False):
        rows = ChatTable(pack=False, answers_only=answers_only).rows(entries, data(tokenizer), 256)
        for entry, ids, targets in zip(entries, rows.ids, rows.targets, strict=True):
            if not answers_only:
                assert targets[:-1].tolist() == ids[1:].tolist()
                continue
            learnt = tokenizer.decode(targets[targets != IGNORED])
            assert learnt == "".join(m["content"] for m in entry.messages if m["role"] == "assistant")


@pytest.mark.parametrize("long", ["cut", "drop"])
def test_long_chats_are_cut_or_dropped_and_counted(long: Any, tokenizer: Tokenizer) -> None:
    short, endless = chats(1)[0], Chat([{"role": "assistant", "content": "alpha " * 400}], {}, "here")
    held = data(tokenizer)
    rows = ChatTable(pack=False, long=long).rows([short, endless], held, 128)
    assert len(rows) == (2 if long == "cut" else 1)
    assert max(len(ids) for ids in rows.ids) <= 128
    assert "1 of 2 conversations" in held.remarks[0]


def test_a_sequence_is_learnt_from_its_target_alone(tokenizer: Tokenizer) -> None:
    pairs = [Pair(" ".join(drawn_words(n)), " ".join(drawn_words(3)), "here") for n in (2, 5, 60)]
    table, held = SequenceTable(prefix="do: "), data(tokenizer)
    rows = table.rows(pairs, held, 64)
    for pair, ids, targets in zip(pairs, rows.ids, rows.targets, strict=True):
        assert len(ids) <= 64
        wanted = targets[targets != IGNORED]
        assert wanted[-1] == tokenizer.end
        assert tokenizer.decode(wanted) == pair.target
        assert tokenizer.decode(ids).startswith("do: ")
    apart = table.rows(pairs, data(tokenizer, source=True), 64)
    for pair, source, ids, targets in zip(pairs, apart.source, apart.ids, apart.targets, strict=True):
        assert tokenizer.decode(targets) == pair.target
        assert ids[1:].tolist() == targets[:-1].tolist()
        assert tokenizer.decode(source) == f"do: {pair.text}" or len(source) == 64
    assert "1 of 3 texts" in held.remarks[0]


def test_cut_texts_keep_their_control_tokens(tokenizer: Tokenizer) -> None:
    ids = list(range(5, 60))
    before, behind = tokenizer.around
    for context in range(4, 70, 7):
        for keep_end in (False, True):
            whole = cut_single(ids, tokenizer, context, keep_end=keep_end)
            assert len(whole) == min(context, len(ids) + len(before) + len(behind))
            assert tuple(whole[: len(before)]) == before
        for other in (3, 30, 90):
            pair, types = cut_pair(ids, list(range(100, 100 + other)), tokenizer, context)
            full = tokenizer.whole(ids, list(range(100, 100 + other)))[0]
            assert len(pair) == len(types) == min(context, len(full))


def test_long_texts_keep_the_end_that_is_asked_for(tokenizer: Tokenizer) -> None:
    entry = Answered(" ".join(WORDS * 9), None, "x", "here")
    held = data(tokenizer, ("x", "y"))
    first, last = (ClassesTable(keep=keep).rows([entry], held, 16).ids[0] for keep in ("start", "end"))
    assert len(first) == len(last) == 16
    assert entry.text.startswith(tokenizer.decode(first))
    assert entry.text.endswith(tokenizer.decode(last))


def test_real_tags_are_learnt_on_a_small_scale(data_folder: Path, tmp_path: Path) -> None:
    """After so few steps a model still finds no names, but its loss is that of the tags' shares or less."""
    source = data_folder / "ner_en" / "wnut17"
    plan = {
        "model": {"family": "bert", "width": 32, "layers": 1, "heads": 2, "context": 64},
        "tokenizer": {"kind": "bytes", "vocab": 600},
        "data": {"kind": "rows", "train": str(source / "dev.conll"), "hold_out": 0.2},
        "objective": "tags",
        "training": {"steps": 40, "batch": 16},
        "optimizer": {"learning_rate": 0.003},
        "log": {"tensorboard": False, "curve": False},
    }
    result = train(plan, out=tmp_path / "run")
    tags = [tag for entry in read_tagged([source / "dev.conll"]) for tag in entry.tags]
    shares = np.unique(tags, return_counts=True)[1] / len(tags)
    assert result.validation_loss is not None
    assert result.validation_loss < 1.3 * float(-(shares * np.log(shares)).sum())
    assert result.metrics["accuracy"] > 0.85


def test_rows_are_known_by_what_they_say_and_not_by_where_they_stand(tokenizer: Tokenizer) -> None:
    def identity(*rows: Any) -> Any:
        return RowData(tokenizer, list(rows), None).identity()["train"]

    kinds = [
        lambda said, name: Answered(said, said, "label", name),
        lambda said, name: Tagged((said,), ("T",), name),
        lambda said, name: Question(said, "who?", (("x", 0),), name),
        lambda said, name: Chat([{"role": "user", "content": said, "name": "Ann"}], {}, name),
        lambda said, name: Pair(said, "target", name),
    ]
    found = [[identity(make(said, name)) for said, name in zip("aab", "xyx", strict=True)] for make in kinds]
    for here, moved, other in found:
        assert here == moved != other
    assert identity(Tagged(("a",), ("T",), "x")) != identity(Tagged(("a",), ("U",), "x"))
    spoken, renamed = ([{"role": "user", "content": "x", "name": name}] for name in ("Ann", "Ben"))
    assert identity(Chat(spoken, {}, "x")) != identity(Chat(renamed, {}, "x"))
