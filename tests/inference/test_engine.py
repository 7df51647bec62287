"""The engine against a predictor that only counts, and against the model itself with and without its cache."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch, as_batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.inference.engine import Engine
from lamoid.inference.request import Completion, Request, Settings
from lamoid.inference.sampler import choose_likeliest

VOCAB = 50
CPU = torch.device("cpu")


class Spelling:
    """Spells token n as the n-th letter, so that texts can be read."""

    def __init__(self, before: Sequence[int] = ()) -> None:
        self.before = before

    def push(self, token: int) -> str:
        return chr(ord("A") + token)

    def finish(self) -> str:
        return ""


class CountingCache:
    def __init__(self, rows: int, length: int) -> None:
        self.sums = torch.zeros(rows, dtype=torch.int64)
        self.lengths = [0] * rows
        self.capacity = length

    def select(self, rows: Tensor) -> None:
        self.sums = self.sums[rows]
        self.lengths = [self.lengths[row] for row in rows.tolist()]


class Counting:
    """Says that the sum of all ids comes next, and notes how much it was made to read."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def new_cache(self, capacities: Sequence[int]) -> Any:
        return CountingCache(len(capacities), max(capacities))

    def step(self, reading: Batch | Tensor, cache: Any) -> Tensor:
        batch = as_batch(reading)
        self.shapes.append(tuple(batch.ids.shape))
        real = torch.ones_like(batch.ids) if batch.segments is None else (batch.segments != 0).long()
        assert (real.sort(descending=True).values == real).all(), "padding stands at the end"
        cache.sums = cache.sums + (batch.ids * real).sum(1)
        cache.lengths = [length + new for length, new in zip(cache.lengths, real.sum(1).tolist(), strict=True)]
        assert max(cache.lengths) <= cache.capacity
        return torch.nn.functional.one_hot(cache.sums % VOCAB, VOCAB).float()


def counting(*, context: int = 100, ends: frozenset[int] = frozenset(), rows: int = 16) -> Engine:
    return Engine(Counting(), context, ends, Spelling, CPU, rows)


def test_a_text_goes_on_with_what_the_predictor_says() -> None:
    [done] = counting().generate([Request((1, 2), Settings(max_tokens=4))])
    assert done == Completion("DGMY", (3, 6, 12, 24), "length")


def test_an_end_token_ends_a_text_and_has_no_letters() -> None:
    [done] = counting(ends=frozenset({12})).generate([Request((1, 2), Settings(max_tokens=9))])
    assert done == Completion("DG", (3, 6, 12), "end")


def test_a_text_ends_before_a_stop_string_that_straddles_tokens() -> None:
    [done] = counting().generate([Request((1, 2), Settings(max_tokens=9, stop="GM"))])
    assert done == Completion("D", (3, 6, 12), "stop")


def test_the_beginning_of_a_stop_string_is_shown_once_it_is_none() -> None:
    pieces = list(counting().stream([Request((1, 2), Settings(max_tokens=3, stop=["DGX", "MZ"]))]))
    assert [piece.text for piece in pieces] == ["", "", "DGM"]
    assert [piece.reason for piece in pieces] == [None, None, "length"]


def test_a_text_ends_at_the_context_with_the_token_after_it() -> None:
    engine = counting(context=4)
    done = engine.generate([Request((1, 2), Settings(max_tokens=9)), Request((1,) * 4, Settings(max_tokens=9))])
    assert [len(text.ids) for text in done] == [3, 1]
    assert {text.reason for text in done} == {"length"}


def test_a_prompt_longer_than_the_context_names_both_lengths_before_anything_is_read() -> None:
    engine = counting(context=4)
    with pytest.raises(InputError, match=r"prompt: has 5 tokens, the model's context is 4\. Shorten it by at least 1"):
        engine.stream([Request((1,), Settings()), Request((1,) * 5, Settings())])
    with pytest.raises(InputError, match="no tokens"):
        engine.stream([Request((), Settings())])
    assert engine.predictor.shapes == []  # type: ignore[attr-defined]


def test_finished_rows_are_read_no_more_and_all_rows_stay_who_they_were() -> None:
    asked = [Request((n,) * (n + 1), Settings(max_tokens=1 + n % 3)) for n in range(5)]
    engine = counting()
    together = engine.generate(asked)
    assert engine.predictor.shapes == [(5, 5), (3, 1), (1, 1)]  # type: ignore[attr-defined]
    assert together == [counting().generate([request])[0] for request in asked]


def test_more_texts_than_rows_are_written_in_turn() -> None:
    asked = [Request((n,), Settings(max_tokens=2)) for n in range(5)]
    engine = counting(rows=2)
    assert engine.generate(asked) == counting().generate(asked)
    assert [shape[0] for shape in engine.predictor.shapes] == [2, 2, 2, 2, 1, 1]  # type: ignore[attr-defined]


class Translating(Counting):
    """Counts what it has written on from the sum of its source, and notes each source that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[list[list[int]]] = []

    def step(self, reading: Batch | Tensor, cache: Any) -> Tensor:
        source = as_batch(reading).source
        if source is not None:
            self.sources.append(source.ids.tolist())
            real = torch.ones_like(source.ids) if source.segments is None else source.segments
            cache.sums = (source.ids * real).sum(1)
        return super().step(reading, cache)


def translating(*, context: int = 100, rows: int = 16) -> Engine:
    return Engine(Translating(), context, frozenset(), Spelling, CPU, rows, begin=2)


def test_a_text_of_an_encoder_decoder_begins_anew_and_its_source_is_read_once() -> None:
    engine = translating()
    done = engine.generate([Request((1, 2, 3), Settings(max_tokens=3)), Request((4,), Settings(max_tokens=3))])
    assert [text.ids for text in done] == [(8, 16, 32), (6, 12, 24)]
    assert engine.predictor.sources == [[[1, 2, 3], [4, 0, 0]]]  # type: ignore[attr-defined]
    assert engine.predictor.shapes == [(2, 1)] * 3  # type: ignore[attr-defined]


def test_source_and_text_have_the_context_each() -> None:
    [done] = translating(context=4).generate([Request((1,) * 4, Settings(max_tokens=9))])
    assert len(done.ids) == 4
    with pytest.raises(InputError, match="prompt: has 5 tokens"):
        translating(context=4).stream([Request((1,) * 5, Settings())])


def test_nothing_asked_is_nothing_written() -> None:
    assert counting().generate([]) == []


def model(family: str, seed: int) -> LanguageModel:
    width = {"llama": {"width": 24, "heads": 4, "kv_heads": 2, "head_width": 6}, "gpt2": {"width": 24, "heads": 4}}
    made = LanguageModel(Shape(family=family, layers=3, context=40, **width[family]).spec(VOCAB))  # type: ignore[arg-type]
    initialise(made, seed, deviation=0.3)
    return made


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_depends_neither_on_the_cache_nor_on_its_company(family: str, temperature: float) -> None:
    made = model(family, seed=1)
    engine = Engine(made, 40, frozenset({7}), Spelling, CPU, rows=4)
    chance = torch.Generator().manual_seed(2)
    prompts = [tuple(torch.randint(VOCAB, (n,), generator=chance).tolist()) for n in (3, 1, 17, 8, 2, 40)]
    asked = [
        Request(ids, Settings(max_tokens=12 + 3 * row, temperature=temperature, seed=row, repetition_penalty=1.2))
        for row, ids in enumerate(prompts)
    ]
    together = engine.generate(asked)
    assert together == [engine.generate([request])[0] for request in asked]
    assert len({text.ids[:3] for text in together}) > 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_cached_equals_reading_the_whole_text_each_time(family: str) -> None:
    made = model(family, seed=3)
    for ids in [(4,), (1, 2, 3, 4, 5, 6)]:
        [done] = Engine(made, 40, frozenset(), Spelling, CPU).generate([Request(ids, Settings(max_tokens=30))])
        text = list(ids)
        with torch.no_grad():
            for _ in range(30):
                text += choose_likeliest(made(torch.tensor([text]))[:, -1])
        assert list(done.ids) == text[len(ids) :]


def test_a_reader_may_take_gradients_between_pieces() -> None:
    made = model("llama", seed=1)
    for _ in Engine(made, 40, frozenset(), Spelling, CPU).stream([Request((1,), Settings(max_tokens=3))]):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
