"""Mixtures: shares are exact on average, rows of a source are the same whatever the weights, and a place is kept."""

import itertools
import json
import random

import pytest
import torch

from lamoid.data.loader import Loader, NextTokens, TrainingBatch
from lamoid.data.mixture import Mixture, check_position, share_out, source_seed
from lamoid.data.shards import Shards, open_shards
from lamoid.errors import InputError
from lamoid.recipes.prepare import prepare
from lamoid.text.training import train_tokenizer

NAMES = ("law", "news", "verse")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shards]:
    folder = tmp_path_factory.mktemp("mixture")
    characters = "".join(chr(0x4E00 + k) for k in range(300))
    for name, data in train_tokenizer([characters], kind="characters", closed=True).files().items():
        (folder / name).write_bytes(data)
    for number, name in enumerate(NAMES):
        text = characters[100 * number : 100 * (number + 1)]
        (folder / f"{name}.jsonl").write_text(json.dumps({"text": text}))
        prepare([str(folder / f"{name}.jsonl")], tokenizer=folder, out=folder / name)
    return {name: open_shards(folder / name) for name in NAMES}


def mix(
    shards: dict[str, Shards], weights: dict[str, float], *, batch: int, position: dict | None = None, seed: int = 7
) -> Mixture:
    loaders = {}
    for name, tokens in shards.items():
        at = None if position is None else position[f"source {name}"]
        loaders[name] = Loader(tokens, NextTokens(8), batch=1, seed=source_seed(seed, name), position=at)
    return Mixture(loaders, weights, batch=batch, seed=seed, step=0 if position is None else position["step"])


def rows(parts: list[TrainingBatch]) -> dict[str, list[list[int]]]:
    """Give every row of some parts by source, in order."""
    found: dict[str, list[list[int]]] = {}
    for part in parts:
        found.setdefault(part.source, []).extend(part.batch.ids.tolist())
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_step_gives_each_source_its_share_to_the_next_whole_row(seed: int) -> None:
    draw = random.Random(seed)
    shares = [draw.random() + 0.01 for _ in range(draw.randint(1, 7))]
    shares = {str(at): share / sum(shares) for at, share in enumerate(shares)}
    size = draw.randint(1, 40)
    for step in range(100):
        counts = share_out(shares, size, f"{seed}/{step}")
        assert sum(counts.values()) == size
        for name, count in counts.items():
            assert abs(count - shares[name] * size) < 1 + 1e-9


def test_shares_are_exact_on_average() -> None:
    """Given by the law of the draw: a count is floor or ceil, so its deviation is at most 1/2 a step."""
    shares = {"a": 0.07, "b": 0.63, "c": 0.3}
    totals = dict.fromkeys(shares, 0)
    steps = 20_000
    for step in range(steps):
        for name, count in share_out(shares, 5, f"mean/{step}").items():
            totals[name] += count
    for name, total in totals.items():
        assert abs(total / steps - 5 * shares[name]) < 6 * 0.5 / steps**0.5


def test_a_share_out_is_the_same_again_and_not_that_of_another_step() -> None:
    shares = {"a": 0.5, "b": 0.5}
    counts = [share_out(shares, 3, f"1/{step}")["a"] for step in range(64)]
    assert counts == [share_out(shares, 3, f"1/{step}")["a"] for step in range(64)]
    assert set(counts) == {1, 2}


def test_a_part_is_of_one_source_and_weights_change_nothing_in_its_rows(shards: dict[str, Shards]) -> None:
    one = mix(shards, {"law": 1, "news": 1, "verse": 2}, batch=8)
    other = mix(shards, {"law": 5, "news": 0.5, "verse": 1}, batch=4)
    first = rows([part for step in itertools.islice(one.steps(1), 30) for part in step])
    second = rows([part for step in itertools.islice(other.steps(3), 30) for part in step])
    for name, tokens in shards.items():
        length = min(len(first[name]), len(second[name]))
        assert length > 20
        assert first[name][:length] == second[name][:length]
        known = set(tokens.window(0, len(tokens))[0].tolist())
        assert {token for row in first[name] for token in row} <= known


def test_accumulation_gives_a_step_the_same_rows(shards: dict[str, Shards]) -> None:
    weights = {"law": 1, "news": 3, "verse": 2}
    whole = itertools.islice(mix(shards, weights, batch=12).steps(1), 10)
    parted = itertools.islice(mix(shards, weights, batch=3).steps(4), 10)
    for one, other in zip(whole, parted, strict=True):
        assert rows(list(one)) == rows(list(other))
        assert len(one) <= len(weights)
        assert all(len(part.batch.ids) <= 3 for part in other)


@pytest.mark.parametrize("stop", [0, 1, 5, 17])
def test_a_mixture_goes_on_exactly_from_any_step(shards: dict[str, Shards], stop: int) -> None:
    weights = {"law": 1, "news": 3, "verse": 2}
    begun = mix(shards, weights, batch=4)
    for _ in range(stop):
        next(begun.steps(2))
    position = json.loads(json.dumps(begun.position))
    check_position(position, NAMES)
    resumed = mix(shards, weights, batch=4, position=position)
    for one, other in zip(itertools.islice(begun.steps(2), 8), itertools.islice(resumed.steps(2), 8), strict=True):
        assert [part.source for part in one] == [part.source for part in other]
        for mine, theirs in zip(one, other, strict=True):
            assert torch.equal(mine.batch.ids, theirs.batch.ids)
            assert torch.equal(mine.targets, theirs.targets)


def test_the_parts_by_themselves_are_those_of_steps_of_one_batch(shards: dict[str, Shards]) -> None:
    weights = {"law": 1, "news": 3, "verse": 2}
    steps = [part for step in itertools.islice(mix(shards, weights, batch=6).steps(1), 5) for part in step]
    parts = itertools.islice(mix(shards, weights, batch=6), len(steps))
    assert rows(list(parts)) == rows(steps)


def test_a_position_of_other_sources_is_refused() -> None:
    for position in ({"step": 1}, {"step": -1, "source law": {}}, {"epoch": 0, "index": 0}, 3, None):
        with pytest.raises(InputError, match="none of these sources"):
            check_position(position, ["law"])
