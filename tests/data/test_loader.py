"""The order is a seeded one, every token is met, and a position goes on where it was taken."""

import itertools
import json
from collections import Counter

import pytest
import torch

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.loader import Loader, NextTokens, TrainingBatch, sequential
from lamoid.data.shards import Shards, open_shards
from lamoid.errors import InputError
from lamoid.recipes.prepare import prepare
from lamoid.text.training import train_tokenizer


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Ten documents in which no character comes twice, so that any window's place is known from its first ones."""
    characters = "".join(chr(0x4E00 + k) for k in range(500))
    folder = tmp_path_factory.mktemp("loader")
    for name, data in train_tokenizer([characters], kind="characters", closed=True).files().items():
        (folder / name).write_bytes(data)
    (folder / "in.jsonl").write_text(
        "\n".join(json.dumps({"text": characters[a:b]}) for a, b in itertools.pairwise([0, 5, *range(19, 500, 50)]))
    )
    prepare([str(folder / "in.jsonl")], tokenizer=folder, out=folder / "out", shard_tokens=64)
    return open_shards(folder / "out")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("single")
    for name, data in train_tokenizer(["abc \n"], kind="characters", closed=True).files().items():
        (folder / name).write_bytes(data)
    (folder / "in.txt").write_text("abc bca\n" * 12 + "a")
    prepare([str(folder / "in.txt")], tokenizer=folder, out=folder / "out")
    return open_shards(folder / "out")


def take(loader: Loader, count: int) -> list[TrainingBatch]:
    return list(itertools.islice(loader, count))


def are_equal(first: list[TrainingBatch], second: list[TrainingBatch]) -> bool:
    return all(
        torch.equal(a.batch.ids, b.batch.ids) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


def test_targets_are_successors_within_a_document(shards: Shards) -> None:
    whole, documents = shards.window(0, len(shards))
    starts = set(shards.starts.tolist())
    for batch in take(Loader(shards, NextTokens(16), batch=4, seed=1), 20):
        segments = batch.batch.segments
        for row in range(4):
            begin = next(
                b for b in range(len(whole) - 16) if whole[b : b + 16].tolist() == batch.batch.ids[row].tolist()
            )
            expected = [IGNORED if t in starts else int(whole[t]) for t in range(begin + 1, begin + 17)]
            assert batch.targets[row].tolist() == expected
            numbers = documents[begin : begin + 16] - documents[begin] + 1
            assert segments is None or segments[row].tolist() == numbers.tolist()
            assert segments is not None or set(numbers) == {1}


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_meets_every_window_once_and_epochs_differ(shards: Shards, ranks: int) -> None:
    """Take the batches of one epoch, as the position tells it, and find where each window was cut: no token repeats."""
    whole, _ = shards.window(0, len(shards))
    places = {tuple(whole[k : k + 8].tolist()): k for k in range(len(whole) - 8)}
    orders, offsets = [], []
    for epoch in range(6):
        position = {"epoch": epoch, "index": 0}
        loaders = [
            Loader(shards, NextTokens(8), batch=ranks, seed=3, position=position, rank=rank, ranks=ranks)
            for rank in range(ranks)
        ]
        met: list[int] = []
        while loaders[0].position["epoch"] == epoch and len(met) < len(whole):
            for loader in loaders:
                met += [places[tuple(row)] for row in next(loader).batch.ids.tolist()]
        used = loaders[0].position["index"] if loaders[0].position["epoch"] > epoch else 0
        met = met[: len(met) - used]
        offset = min(met)
        assert Counter(met) == Counter(range(offset, len(whole) - 8, 8)), "side by side, each once"
        assert offset < 8
        orders.append(tuple(met))
        offsets.append(offset)
    assert len(set(offsets)) > 1
    assert len({tuple(place - order[0] for place in order) for order in orders}) > 1


def test_one_document_needs_no_segments(single: Shards) -> None:
    assert all(b.batch.segments is None for b in take(Loader(single, NextTokens(8), batch=4, seed=0), 10))


@pytest.mark.parametrize("taken", [0, 1, 7, 40])
def test_a_position_goes_on_bit_for_bit(shards: Shards, taken: int) -> None:
    loader = Loader(shards, NextTokens(10), batch=6, seed=5)
    take(loader, taken)
    position = json.loads(json.dumps(loader.position))
    again = Loader(shards, NextTokens(10), batch=6, seed=5, position=position)
    assert are_equal(take(loader, 30), take(again, 30))


@pytest.mark.parametrize("ahead", [0, 1, 7, 16])
def test_how_far_the_order_is_worked_out_ahead_changes_nothing(
    shards: Shards, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch at a time, or stretches that batches overlap: the same rows over several epochs."""
    whole = take(Loader(shards, NextTokens(10), batch=6, seed=5), 30)
    monkeypatch.setattr("lamoid.data.loader.AHEAD", ahead)
    assert are_equal(take(Loader(shards, NextTokens(10), batch=6, seed=5), 30), whole)


def test_ranks_share_the_global_batch(shards: Shards) -> None:
    whole = take(Loader(shards, NextTokens(10), batch=6, seed=5), 12)
    for ranks in (2, 3, 6):
        slices = [take(Loader(shards, NextTokens(10), batch=6, seed=5, rank=r, ranks=ranks), 12) for r in range(ranks)]
        for k, batch in enumerate(whole):
            assert torch.equal(torch.cat([s[k].batch.ids for s in slices]), batch.batch.ids)
            assert torch.equal(torch.cat([s[k].targets for s in slices]), batch.targets)


def test_the_seed_decides(shards: Shards) -> None:
    first, same, other = (take(Loader(shards, NextTokens(10), batch=6, seed=s), 5) for s in (1, 1, 2))
    assert are_equal(first, same)
    assert not are_equal(first, other)


@pytest.mark.parametrize("context", [1, 7, 64, 1000])
@pytest.mark.parametrize("batch", [1, 3])
def test_validation_scores_each_target_once(shards: Shards, context: int, batch: int) -> None:
    whole, _ = shards.window(0, len(shards))
    starts = set(shards.starts.tolist())
    ids, targets = [], []
    for b in sequential(shards, NextTokens(context), batch=batch):
        real = torch.ones_like(b.batch.ids, dtype=torch.bool) if b.batch.segments is None else b.batch.segments > 0
        assert bool((b.targets[~real] == IGNORED).all())
        ids += b.batch.ids[real].tolist()
        targets += b.targets[real].tolist()
    assert ids == whole[:-1].tolist()
    assert targets == [IGNORED if k in starts else int(whole[k]) for k in range(1, len(whole))]


def test_what_cannot_be_loaded_is_refused(single: Shards) -> None:
    good = {"view": NextTokens(8), "batch": 4, "seed": 0}
    for change, match in [
        ({"view": NextTokens(0)}, "must be 1 or more"),
        ({"batch": 0}, "must be 1 or more"),
        ({"view": NextTokens(len(single))}, "Prepare more text"),
        ({"ranks": 3}, "do not part evenly"),
        ({"rank": 2, "ranks": 2}, "do not part evenly"),
        ({"position": {"epoch": 0}}, "not an epoch and an index"),
        ({"position": {"epoch": 0, "index": -1}}, "not an epoch and an index"),
        ({"position": {"epoch": 0, "index": True}}, "not an epoch and an index"),
        ({"position": {"epoch": 0, "index": 10**9}}, "Use the data it was saved for"),
        ({"position": []}, "not an epoch and an index"),
    ]:
        with pytest.raises(InputError, match=match):
            Loader(single, **(good | change))
    assert len(take(Loader(single, NextTokens(len(single) - 1), batch=2, seed=0), 3)) == 3


@pytest.mark.parametrize("length", [1, 7, 64, 65, 130])
def test_windows_at_once_are_the_windows_one_by_one(shards: Shards, length: int) -> None:
    part = shards.part(0.1, 0.95)
    begins = [0, len(part) - 1, len(part) // 3, *range(5, len(part), 41)]
    tokens, documents = part.windows(begins, length)
    for row, begin in enumerate(begins):
        room = min(length, len(part) - begin)
        ids, numbers = part.window(begin, room)
        assert tokens[row].tolist() == ids.tolist() + [0] * (length - room)
        assert documents[row].tolist() == (numbers - numbers[0] + 1).tolist() + [0] * (length - room)


def test_windows_begin_inside(shards: Shards) -> None:
    for begin in (-1, len(shards)):
        with pytest.raises(IndexError):
            shards.windows([0, begin], 4)
