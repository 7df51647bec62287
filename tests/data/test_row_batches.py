"""Rows come out of a batch as they went in, and packing loses none."""

import numpy as np
import torch

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.row_batches import SourceRows, TextRows, TokenRows, pack
from lamoid.data.task_rows import TaskLoader, by_length


def drawn(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    return [rng.integers(1, 50, rng.integers(1, 9)) for _ in range(count)]


def test_a_batch_holds_the_rows_and_nothing_else() -> None:
    ids, targets, source = drawn(20), drawn(20), drawn(20)
    targets = [np.resize(row, len(one)) for row, one in zip(targets, ids, strict=True)]
    for rows in (
        TextRows("a", ids, torch.arange(20), ids),
        TokenRows("a", ids, targets),
        SourceRows("a", source, ids, targets),
    ):
        seen = []
        for places, part in by_length(rows, 3):
            for row, place in enumerate(places.tolist()):
                seen.append(place)
                length = int((part.batch.segments[row] != 0).sum())
                assert part.batch.ids[row, :length].tolist() == ids[place].tolist()
                assert not part.batch.ids[row, length:].any()
                if isinstance(rows, TextRows):
                    assert part.targets[row] == place
                else:
                    assert part.targets[row, :length].tolist() == targets[place].tolist()
                    assert (part.targets[row, length:] == IGNORED).all()
                if part.batch.source is not None:
                    long = int((part.batch.source.segments[row] != 0).sum())
                    assert part.batch.source.ids[row, :long].tolist() == source[place].tolist()
        assert sorted(seen) == list(range(20))


def test_packing_fits_and_loses_none() -> None:
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    for _ in range(20):
        lengths = rng.integers(1, 33, rng.integers(1, 80)).tolist()
        rows = pack(lengths, 32)
        assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
        assert all(sum(lengths[index] for index in row) <= 32 for row in rows)
        # First-fit decreasing needs at most 11/9 of the best number of rows and one more (Johnson, 1973).
        assert (
            len(rows) <= 11 / 9 * np.ceil(sum(lengths) / 32) + 1
            or sum(n > 16 for n in lengths) >= len(rows) * 9 / 11 - 1
        )


def test_a_loader_goes_on_where_it_was() -> None:
    rows = TextRows("a", drawn(10), torch.arange(10))
    whole = TaskLoader(rows, batch=3, seed=1)
    for _ in range(5):
        next(whole)
    again = TaskLoader(rows, batch=3, seed=1, position=whole.position)
    for _ in range(5):
        assert torch.equal(next(whole).targets, next(again).targets)
