"""What is said of a fusion."""

import pytest

from lamoid.fusion.verdict import NEGLIGIBLE, describe_verdict, describe_weights, give_verdict
from lamoid.weighing.softmax import softmax_weights


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-0.2, -0.1), "better"), ((0.1, 0.2), "worse"), ((-0.1, 0.1), "equal"), ((-0.1, 0.0), "equal"), (None, "equal")],
)
def test_verdict_goes_by_the_interval(interval: tuple[float, float] | None, verdict: str) -> None:
    assert give_verdict(interval) == verdict


def test_what_no_figure_shows_is_no_gain_but_every_loss_is_one() -> None:
    assert give_verdict((-9e-5, -1e-5), NEGLIGIBLE) == "equal"
    assert give_verdict((-2e-4, -1e-5), NEGLIGIBLE) == "better"
    assert give_verdict((1e-5, 9e-5), NEGLIGIBLE) == "worse"
    assert "a negligible rest" in describe_verdict("equal", "law", -5e-5, (-9e-5, -1e-5), "law")


def test_the_best_member_is_named_when_it_wins() -> None:
    text = describe_verdict("worse", "law", 0.15, (0.1, 0.2), "base")
    assert "The best single member, law, wins" in text
    assert "Use base." in text
    assert "not significant" in describe_verdict("equal", "law", 0.0, (-0.1, 0.1), "law")
    assert "no interval" in describe_verdict("equal", "law", 0.0, None, "law")
    assert "better than the best single member, law" in describe_verdict("better", "law", -0.1, (-0.2, -0.05), "law")


def test_nearly_uniform_weights_are_said_with_a_cure() -> None:
    losses = [2.0, 2.05]
    text = describe_weights(softmax_weights(losses), losses, 1.0)
    assert text is not None
    assert "within 5 % of uniform" in text
    assert "--tau 0.05" in text
    sharp = softmax_weights(losses, 0.05)
    assert sharp[0] / sharp[1] == pytest.approx(2.718, abs=0.001)
    assert describe_weights(sharp, losses, 0.05) is None
    assert describe_weights([1.0], [2.0], 1.0) is None
    equal = describe_weights([0.5, 0.5], [2.0, 2.0], 1.0)
    assert equal is not None
    assert "smaller tau" not in equal
