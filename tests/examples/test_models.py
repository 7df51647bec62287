"""The example models: short, round-tripped, drawn, and each learns from real text in a few steps."""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import encode_spec, encode_toml, read_spec
from lamoid.recipes.demo_text import gather
from lamoid.recipes.draw import draw
from lamoid.recipes.spec_check import spec_check
from lamoid.text.training import train_tokenizer

MODELS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "examples" / "models").glob("*.toml"))}
MOST_LINES, STEPS, ROWS, LENGTH = 30, 30, 8, 48
MASK, SENTINEL = 1, 2  # tokens of the vocabulary that the text does not use: control bytes
Make = Callable[[Tensor, torch.Generator], tuple[Batch, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def text() -> str:
    """What Python's library says of itself: it is on every machine."""
    return "\n".join(document.text for document in gather(200_000)["docstrings"]["train"])


@pytest.fixture(scope="module")
def ids(text: str) -> Tensor:
    return torch.tensor(train_tokenizer([text], vocab=512).encode(text[:120_000]))


def rows(ids: Tensor, generator: torch.Generator) -> Tensor:
    """Draw (ROWS, LENGTH) pieces of the text."""
    starts = torch.randint(len(ids) - LENGTH, (ROWS,), generator=generator)
    return torch.stack([ids[start : start + LENGTH] for start in starts])


def shifted(answers: Tensor) -> Tensor:
    """Each token is to say the next one; the last says nothing."""
    return torch.cat((answers[:, 1:], torch.full((len(answers), 1), -100)), dim=1)


def next_tokens(ids: Tensor, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
    piece = rows(ids, generator)
    return Batch(piece), {"next_token": shifted(piece)}


def masked_pairs(ids: Tensor, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
    """BERT: an eighth of the tokens is masked, and of half of the rows the second half comes from elsewhere."""
    piece, elsewhere = rows(ids, generator), rows(ids, generator)
    half, swapped = LENGTH // 2, torch.arange(ROWS) % 2
    piece = torch.cat((piece[:, :half], torch.where(swapped[:, None] == 1, elsewhere, piece)[:, half:]), dim=1)
    hidden = torch.rand(piece.shape, generator=generator) < 0.125
    types = (torch.arange(LENGTH) >= half).long().expand(ROWS, -1)
    answers = piece.masked_fill(~hidden, -100)
    return Batch(piece.masked_fill(hidden, MASK), types=types), {"masked": answers, "next_sentence": swapped}


def masked_spans(ids: Tensor, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
    """T5: a span of the source stands behind a sentinel, and the decoder writes it."""
    piece, span = rows(ids, generator), slice(16, 28)
    sentinel = torch.full((ROWS, 1), SENTINEL)
    source = torch.cat((piece[:, : span.start], sentinel, piece[:, span.stop :]), dim=1)
    target = torch.cat((sentinel, piece[:, span]), dim=1)
    return Batch(target, source=Batch(source)), {"next_token": shifted(target)}


def pairs(ids: Tensor, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
    """Two towers: is the second text a part of the first, or of another?"""
    piece, labels = rows(ids, generator), torch.arange(ROWS) % 2
    part = torch.where(labels[:, None] == 1, piece, piece.roll(1, dims=0))[:, 8:24]
    return Batch(part, source=Batch(piece)), {"match": labels}


def words_so_far(text: str, vocab: int) -> list[int]:
    """Give for each character the id of the last word that was complete before it; 0: none yet, or a rare one."""
    common: dict[str, int] = {}
    for word in "".join(letter if letter.isalpha() else " " for letter in text).split():
        common.setdefault(word, len(common) + 1)
    last, begun, found = 0, "", []
    for letter in text:
        found.append(last)
        if letter.isalpha():
            begun += letter
        elif begun:
            last, begun = common[begun] if common[begun] < vocab else 0, ""
    return found


def test_words_so_far_look_at_nothing_that_is_to_come() -> None:
    # The space behind "is" still sees none complete: the word ends at it, and is known from the next letter on.
    assert words_so_far("is it is", 9) == [0, 0, 0, 1, 1, 1, 2, 2]
    text = "to be or not to be"
    assert all(words_so_far(text[:end], 9) == words_so_far(text, 9)[:end] for end in range(len(text)))


def characters_and_words(text: str, part: slice) -> Make:
    """Read characters of a part of the text; words have the same ids in every part."""
    letters = torch.tensor([min(ord(letter), 127) for letter in text])[part]
    words = torch.tensor(words_so_far(text, 1000))[part]

    def make(_: Tensor, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
        starts = torch.randint(len(letters) - 2 * LENGTH, (ROWS,), generator=generator)
        piece, known = (torch.stack([row[start : start + 2 * LENGTH] for start in starts]) for row in (letters, words))
        return Batch(piece, streams={"words": known}), {"next_token": shifted(piece)}

    return make


def nats(model: LanguageModel, batch: Batch, answers: dict[str, Tensor]) -> Tensor:
    """Give the mean loss of each head, added up."""
    hidden = model.hidden(batch)
    losses = []
    for name, wanted in answers.items():
        logits = model.answer(hidden, batch, name)
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, -2), wanted.flatten()))
    return torch.stack(losses).sum()


def train(model: LanguageModel, batches: Iterator[tuple[Batch, dict[str, Tensor]]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for batch, answers in batches:
        loss = nats(model, batch, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_there_are_six_and_each_is_short() -> None:
    assert len(MODELS) >= 6
    for path in MODELS.values():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MOST_LINES
        assert max(map(len, lines)) <= 200
        assert lines[0] == "#:schema ./spec.schema.json"


@pytest.mark.parametrize("name", MODELS)
def test_an_example_is_checked_drawn_and_round_tripped(name: str, tmp_path: Path) -> None:
    spec = read_spec(MODELS[name])
    assert spec_check([MODELS[name]]).specs[0].parameters == spec.parameters()
    (tmp_path / "a.json").write_bytes(encode_spec(spec))
    (tmp_path / "a.toml").write_bytes(encode_toml(spec))
    assert read_spec(tmp_path / "a.json") == read_spec(tmp_path / "a.toml") == spec
    for form in ("svg", "mmd", "png"):
        assert draw(MODELS[name], out=tmp_path / f"a.{form}").bytes > 500


@pytest.mark.parametrize("name", MODELS)
def test_an_example_learns_from_text(name: str, ids: Tensor, text: str) -> None:
    """Its loss on text that it was not trained on falls, and no parameter is left out.

    Matching is learned late, so the two towers are judged on the few pairs that they were shown often.
    """
    special: dict[str, Make] = {"bert": masked_pairs, "t5": masked_spans, "two_tower": pairs}
    make = judge = special.get(name, next_tokens)
    if name == "words_and_characters":
        make, judge = (characters_and_words(text[:80_000], part) for part in (slice(60_000), slice(60_000, None)))
    model = LanguageModel(read_spec(MODELS[name]))
    initialise(model, 1)
    generator = torch.Generator().manual_seed(0)
    judged = [judge(ids[-20_000:], generator) for _ in range(4)]
    steps = 2 * STEPS if name in ("t5", "two_tower") else STEPS
    fresh = (make(ids[:-20_000], generator) for _ in range(steps))

    def loss() -> float:
        with torch.no_grad():
            return sum(nats(model, batch, answers).item() for batch, answers in judged) / len(judged)

    before = loss()
    train(model, islice(cycle(judged), steps) if name == "two_tower" else fresh)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert loss() < 0.9 * before
