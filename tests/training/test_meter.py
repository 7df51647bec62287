"""A line's figures: what energy costs, what is left, and the parts of the loss; and the picture of several terms."""

import struct
from pathlib import Path

import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.training.curve import draw_curve
from lamoid.training.energy import Energy
from lamoid.training.meter import MEASURED, Meter
from lamoid.training.objectives import Term
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.state import TrainingState


class Steady:
    name = "package-0"

    def __init__(self, joules: float) -> None:
        self.total = joules

    def joules(self) -> float:
        return self.total


def state(**terms: float) -> TrainingState:
    """A state after 4 of 10 steps in 2 seconds, each with these terms."""
    model = LanguageModel(Shape(family="llama", width=8, layers=1, heads=1, context=8).spec(16))
    initialise(model, 0)
    made = TrainingState(model, AdamWSpec(learning_rate=0.5).build(trained_parameters(model)), 10)
    for _ in range(4):
        made.terms.note("", {name: Term(torch.tensor(loss), 1) for name, loss in terms.items()})
        made.terms.end_step()
        made.losses.append(sum(terms.values()))
    made.step, made.tokens, made.seconds, made.share = 4, 1000, 2.0, 0.25
    return made


def test_energy_costs_its_kilowatt_hours_times_the_price() -> None:
    """1 kWh is 3.6 MJ, by definition."""
    figures = Meter(lambda steps: 1.0, 1e9, Energy([Steady(1.8e6)], before=1.8e6), 0.3).figures(state(say=1.0), 2)
    assert figures["energy_joules"] == 3.6e6
    assert figures["cost"] == pytest.approx(0.3)
    assert "cost" not in Meter(lambda steps: 1.0, 1e9, Energy([Steady(1.0)])).figures(state(say=1.0), 2)


def test_where_nothing_tells_the_energy_there_is_no_figure() -> None:
    figures = Meter(lambda steps: 1.0, 1e9, None, 0.3).figures(state(say=1.0), 2)
    assert not {"energy_joules", "cost"} & set(figures)


def test_rates_and_what_is_left_are_of_the_steps_made() -> None:
    figures = Meter(lambda steps: 100.0 + steps, 1e6).figures(state(say=2.0, check=0.5), 3)
    assert figures["tokens_per_second"] == 500.0
    assert figures["share_of_peak"] == pytest.approx(500.0 * 104.0 / 1e6)
    assert (figures["seconds"], figures["seconds_left"]) == (2.0, 3.0)
    assert (figures["loss"], figures["loss/say"], figures["loss/check"]) == (2.5, 2.0, 0.5)
    assert figures["learning_rate"] == 0.125
    assert figures["memory_peak"] > 0


def test_what_is_not_called_measured_is_the_same_again() -> None:
    found = [Meter(lambda steps: 1.0, peak).figures(state(say=2.0), 3) for peak in (1e6, 2e6)]
    first, again = ({name: value for name, value in each.items() if name not in MEASURED} for each in found)
    assert first == again
    assert {"loss", "learning_rate", "gradient_norm", "tokens", "parameters"} <= set(first)


@pytest.mark.parametrize(("terms", "height"), [({"say": 2.0}, 600), ({"say": 2.0, "check $x$": 0.5}, 1200)])
def test_the_picture_has_a_panel_more_where_there_are_several_terms(
    tmp_path: Path, terms: dict[str, float], height: int
) -> None:
    pytest.importorskip("matplotlib")
    assert draw_curve(state(**terms), tmp_path / "curve.png", "a run of $\\frac{1}{0}$")
    assert struct.unpack(">II", (tmp_path / "curve.png").read_bytes()[16:24]) == (960, height)
