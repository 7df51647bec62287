"""Rows of a task: every token a target once, batches that hold each row once an epoch, positions that go on."""

import pytest
import torch

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.task_rows import TaskLoader, by_length, label_rows, next_token_rows
from lamoid.errors import InputError

TEXTS = [list(range(10, 10 + length)) for length in (3, 1, 9, 5, 7)]


def test_labelled_rows_keep_the_start_or_the_end() -> None:
    for keep, wanted in (("start", TEXTS[2][:4]), ("end", TEXTS[2][-4:])):
        rows = label_rows("a", TEXTS, [0, 1, 2, 3, 4], 4, keep)
        batch = rows.batch(torch.tensor([2, 1]))
        assert batch.batch.ids.tolist() == [wanted, [10, 0, 0, 0]]
        assert batch.batch.segments is not None
        assert batch.batch.segments.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
        assert batch.targets.tolist() == [2, 1]
    assert label_rows("a", TEXTS, [0] * 5, 4, "start").batch(torch.tensor([1])).batch.ids.shape == (1, 1)


@pytest.mark.parametrize("context", [2, 3, 4, 20])
def test_each_token_but_the_first_is_said_once_after_those_before(context: int) -> None:
    rows = next_token_rows("a", TEXTS, context)
    batch = rows.batch(torch.arange(len(rows)))
    said = batch.targets != IGNORED
    assert sorted(batch.targets[said].tolist()) == sorted(token for text in TEXTS for token in text[1:])
    assert (batch.targets[said] == batch.batch.ids[said] + 1).all()
    assert batch.batch.segments is not None
    assert (said == (batch.batch.segments == 1)).all()
    assert batch.batch.ids.shape[1] <= context


def test_an_epoch_has_every_row_once_and_the_next_another_order() -> None:
    rows = label_rows("a", [[number + 1] for number in range(10)], list(range(10)), 4, "start")
    loader = TaskLoader(rows, batch=4, seed=3)
    seen = [next(loader).targets.tolist() for _ in range(5)]
    flat = [label for part in seen for label in part]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    again = TaskLoader(rows, batch=4, seed=3)
    next(again), next(again)
    going_on = TaskLoader(rows, batch=4, seed=3, position=again.position)
    assert [next(going_on).targets.tolist() for _ in range(3)] == seen[2:]
    assert next(TaskLoader(rows, batch=4, seed=4)).targets.tolist() != seen[0]
    wide = next(TaskLoader(rows, batch=25, seed=3)).targets
    assert torch.bincount(wide).min() >= 2


def test_rows_by_length_come_once() -> None:
    rows = label_rows("a", TEXTS, [0, 1, 2, 3, 4], 20, "start")
    found = list(by_length(rows, 2))
    assert sorted(torch.cat([places for places, _ in found]).tolist()) == list(range(5))
    assert all(torch.equal(places, batch.targets) for places, batch in found)
    assert [batch.batch.ids.shape[1] for _, batch in found] == [3, 7, 9]


def test_a_text_without_a_token_is_refused() -> None:
    with pytest.raises(InputError, match=r"tasks.a: has no text, or one without a token"):
        label_rows("a", [[1], []], [0, 1], 4, "start")
    with pytest.raises(InputError, match=r"tasks\.a"):
        next_token_rows("a", [[1]], 4)
