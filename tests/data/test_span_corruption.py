"""Spans are cut out as T5 does: its sizes, its law on 10^6 tokens, its documented examples, and nothing is lost."""

import itertools
import os
import time
from collections import Counter

import numpy as np
import pytest

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.loader import TrainingBatch, Windows
from lamoid.data.span_corruption import SpanView, corrupted_lengths, fitting_length, noise_mask, span_lengths
from lamoid.errors import InputError
from lamoid.text.training import train_tokenizer

CONTROLS = np.arange(110)
VIEW = SpanView(64, tuple(range(109, 9, -1)), CONTROLS, start=0, end=1)


@pytest.fixture
def draws() -> np.random.Generator:
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    return np.random.default_rng(seed)


def spans_of(mask: np.ndarray) -> list[int]:
    return [len(list(run)) for is_noise, run in itertools.groupby(mask.tolist()) if is_noise]


def test_lengths_are_those_that_t5_states() -> None:
    """T5's own figures: inputs of 512 tokens take texts of 568 and targets of 114 (``span_corruption`` of its code)."""
    assert fitting_length(512, 0.15, 3.0) == 568
    assert corrupted_lengths(568, 0.15, 3.0) == (512, 114)
    # Those of UL2's denoisers R and X at 512 tokens, worked out by the same rule.
    for density, mean in ((0.15, 8.0), (0.5, 3.0), (0.5, 32.0)):
        length = fitting_length(512, density, mean)
        assert max(corrupted_lengths(length, density, mean)) <= 512 < max(corrupted_lengths(length + 1, density, mean))


def test_density_and_mean_length_on_a_million_tokens(draws: np.random.Generator) -> None:
    length, masks = 568, []
    for _ in range(10**6 // 568 + 1):
        masks.append(noise_mask(length, 0.15, 3.0, draws))
    found = np.stack(masks)
    lengths = [size for mask in masks for size in spans_of(mask)]
    noise, spans = span_lengths(length, 0.15, 3.0)
    assert (noise, spans) == (85, 28)
    assert (found.sum(1) == noise).all()
    assert found.mean() == pytest.approx(0.15, abs=0.001)
    assert len(lengths) == spans * len(masks)
    assert np.mean(lengths) == pytest.approx(3.0, abs=0.05)
    assert not found[:, 0].any()
    assert found[:, -1].all()
    # Away from both ends, every place is noise equally often: within 6 standard deviations of the share.
    share = found[:, 100:-100].mean(0)
    assert (np.abs(share - 0.15) < 6 * (0.15 * 0.85 / len(masks)) ** 0.5 + 0.01).all()
    # The first of k parts of n has the length j with probability C(n - j - 1, k - 2) / C(n - 1, k - 1): near 2/3 of
    # the previous one's; for 85 in 28 it is one token with probability 27 / 84.
    ones = sum(size == 1 for size in lengths) / len(lengths)
    assert ones == pytest.approx(27 / 84, abs=6 * (27 / 84 * 57 / 84 / len(lengths)) ** 0.5)


def test_every_way_of_parting_is_equally_likely(draws: np.random.Generator) -> None:
    """Twelve tokens, half of them noise in two spans: 5 ways to part the noise and 5 the rest, all 25 alike."""
    drawn = 20_000
    counts = Counter(tuple(noise_mask(12, 0.5, 3.0, draws).tolist()) for _ in range(drawn))
    ways = {
        (False,) * a + (True,) * b + (False,) * (6 - a) + (True,) * (6 - b) for a in range(1, 6) for b in range(1, 6)
    }
    assert set(counts) == ways
    square = sum((count - drawn / 25) ** 2 / (drawn / 25) for count in counts.values())
    assert square < 24 + 7 * 48**0.5


def put_back(source: list[int], target: list[int]) -> list[int]:
    """Read input and target as the paper tells: what stands behind a sentinel is what it stands for."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in VIEW.sentinels:
            spans[token] = []
            continue
        next(reversed(spans.values())).append(token)
    return [text for token in source for text in spans.pop(token, [token])]


def texts(rows: int, length: int, draws: np.random.Generator) -> Windows:
    tokens = draws.integers(110, 1000, (rows, length))
    return Windows(tokens, np.ones_like(tokens), tuple(f"{draws.integers(10**9)}" for _ in range(rows)))


def unpadded(ids: np.ndarray, segments: np.ndarray | None) -> list[list[int]]:
    marks = np.ones_like(ids) if segments is None else segments
    return [row[mark != 0].tolist() for row, mark in zip(ids, marks, strict=True)]


def parts(example: TrainingBatch) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Give the inputs, what the decoder reads, and the targets, without padding."""
    batch, source = example.batch, example.batch.source
    assert source is not None
    read = unpadded(batch.ids.numpy(), None if batch.segments is None else batch.segments.numpy())
    given = unpadded(source.ids.numpy(), None if source.segments is None else source.segments.numpy())
    return given, read, [row[row != IGNORED].tolist() for row in example.targets.numpy()]


def test_input_and_target_give_the_text_back(draws: np.random.Generator) -> None:
    windows = texts(300, VIEW.length, draws)
    example = VIEW(windows)
    assert example.batch.source is not None
    assert example.batch.segments is None
    assert example.batch.source.segments is None
    assert example.batch.source.ids.shape[1] == 64, "the context is filled"
    for text, given, read, target in zip(windows.tokens.tolist(), *parts(example), strict=True):
        assert given[-1] == target[-1] == VIEW.end
        assert read == [VIEW.start, *target[:-1]]
        marks = [token for token in given if token < 110 and token != VIEW.end]
        assert marks == list(VIEW.sentinels[: len(marks)]), "in falling order of their ids, as T5's are"
        assert put_back(given[:-1], target[:-1]) == text


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 40])
def test_short_texts_lose_nothing_and_padding_is_marked(length: int, draws: np.random.Generator) -> None:
    windows = texts(20, VIEW.length, draws)
    windows.documents[:, length:] = 0
    for text, given, _, target in zip(windows.tokens[:, :length].tolist(), *parts(VIEW(windows)), strict=True):
        assert put_back(given[:-1], target[:-1]) == text
        assert (len(target) > 1) == (length > 1)


def test_control_tokens_of_the_text_are_left_out(draws: np.random.Generator) -> None:
    windows = texts(20, VIEW.length, draws)
    windows.tokens[:, ::7] = 1
    for text, given, _, target in zip(windows.tokens.tolist(), *parts(VIEW(windows)), strict=True):
        assert put_back(given[:-1], target[:-1]) == [token for token in text if token != 1]


def test_a_row_is_corrupted_alone_as_in_company(draws: np.random.Generator) -> None:
    windows = texts(5, VIEW.length, draws)
    together = parts(VIEW(windows))
    for row in range(5):
        alone = Windows(windows.tokens[row : row + 1], windows.documents[row : row + 1], windows.keys[row : row + 1])
        assert [part[row] for part in together] == [part[0] for part in parts(VIEW(alone))]


@pytest.mark.parametrize(
    ("text", "cut", "given", "target"),
    [
        (  # Figure 2 of the paper
            "Thank you for inviting me to your party last week .",
            (2, 3, 8),
            "Thank you <0> me to your party <1> week .",
            "<0> for inviting <1> last <2>",
        ),
        (  # the documentation of transformers' T5
            "The cute dog walks in the park",
            (1, 2, 5),
            "The <0> walks in <1> park",
            "<0> cute dog <1> the <2>",
        ),
    ],
)
def test_documented_examples(text: str, cut: tuple[int, ...], given: str, target: str) -> None:
    """With the spans given: a last sentinel stands for the text behind the last span, if there is any."""
    words = text.split()
    ids = {word: 200 + number for number, word in enumerate(words)} | {f"<{k}>": VIEW.sentinels[k] for k in range(3)}
    mask = np.isin(np.arange(len(words)), cut)
    tokens = np.array([ids[word] for word in words])
    assert VIEW._with_sentinels(tokens, mask).tolist() == [ids[word] for word in given.split()]
    assert VIEW._with_sentinels(tokens, ~mask).tolist() == [ids[word] for word in target.split()]


def test_what_is_lacking_is_named() -> None:
    plain, few = train_tokenizer(["abc"], kind="characters"), train_tokenizer(["abc"], kind="characters", sentinels=5)
    with pytest.raises(InputError, match=r"has 0 sentinels, and a text of 568 tokens has 28.*tokenizer.sentinels = 28"):
        SpanView.of(plain, 512, 0.15, 3.0)
    with pytest.raises(InputError, match="has 5 sentinels"):
        SpanView.of(few, 512, 0.15, 3.0)
    assert SpanView.of(few, 64, 0.15, 3.0).length == fitting_length(64, 0.15, 3.0)
    with pytest.raises(InputError, match="context: is 2"):
        SpanView.of(few, 2, 0.15, 3.0)
