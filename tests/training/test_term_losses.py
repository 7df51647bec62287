"""Losses by term and source: sums and counts that add up to the loss, and go on from a checkpoint."""

import math

import pytest
import torch

from lamoid.training.objectives import Term
from lamoid.training.term_losses import TermLosses


def note(losses: TermLosses, source: str, **terms: tuple[float, int, float]) -> None:
    losses.note(
        source, {name: Term(torch.tensor(total), count, weight) for name, (total, count, weight) in terms.items()}
    )


def example() -> TermLosses:
    """Three steps: both sources, one of them alone with a second term, both again."""
    losses = TermLosses()
    note(losses, "a", say=(4.0, 2, 1.0))
    note(losses, "b", say=(8.0, 4, 1.0))
    losses.end_step()
    note(losses, "a", say=(6.0, 2, 1.0), check=(1.0, 2, 0.5))
    losses.end_step()
    note(losses, "b", say=(10.0, 2, 1.0), check=(3.0, 1, 0.5))
    note(losses, "b", say=(2.0, 2, 1.0), check=(1.0, 1, 0.5))
    losses.end_step()
    return losses


def test_a_term_is_the_mean_of_its_steps_and_a_source_sum_over_count() -> None:
    found = example().means(3)
    assert found["say"] == pytest.approx((12 / 6 + 6 / 2 + 12 / 4) / 3)
    assert found["check"] == pytest.approx((0.5 / 2 + 2.0 / 2) / 2)
    assert found["a/say"] == pytest.approx((4 + 6) / 4)
    assert found["b/say"] == pytest.approx((8 + 10 + 2) / 8)
    assert found["b/check"] == pytest.approx(2.0 / 2)
    assert list(example().means(1)) == ["say", "check", "b/say", "b/check"]


def test_the_curves_have_a_point_for_each_step_that_has_the_term() -> None:
    assert example().curves() == {"say": [(1, 2.0), (2, 3.0), (3, 3.0)], "check": [(2, 0.25), (3, 1.0)]}


@pytest.mark.parametrize("asked", [False, True])
def test_a_checkpoint_holds_them_to_the_bit(asked: bool) -> None:
    losses, other = example(), TermLosses()
    if asked:
        losses.means(2)
    other.load(losses.tensors())
    for each in (losses, other):
        note(each, "c", late=(0.1, 3, 1.0))
        each.end_step()
    assert losses.means(4) == other.means(4)
    assert losses.curves() == other.curves()
    assert {name: value.tolist() for name, value in losses.tensors().items()} == {
        name: value.tolist() for name, value in other.tensors().items()
    }
    assert len(other) == 4


def test_what_was_noted_of_a_step_that_was_given_up_is_forgotten_with_it() -> None:
    losses, saved = example(), example().tensors()
    note(losses, "a", say=(100.0, 1, 1.0))
    losses.load(saved)
    assert losses.means(3) == example().means(3)


def test_a_loss_that_is_no_number_is_in_no_mean() -> None:
    losses = example()
    note(losses, "a", say=(math.nan, 2, 1.0))
    losses.end_step()
    assert losses.means(4) == example().means(3)


def test_without_sources_there_are_none_and_without_steps_nothing() -> None:
    losses = TermLosses()
    assert losses.means(10) == {}
    note(losses, "", say=(1.0, 2, 1.0))
    losses.end_step()
    assert losses.means(10) == {"say": 0.5}
