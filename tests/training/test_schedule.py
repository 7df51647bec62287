"""The schedule against torch's own, and at its corners."""

import math

import pytest
import torch

from lamoid.errors import InputError
from lamoid.training.schedule import ScheduleSpec


def test_cosine_is_torchs_cosine_annealing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=89, eta_min=0.1)
    schedule = ScheduleSpec(warmup=10, decay="cosine", final=0.1)
    for step in range(10, 100):
        assert schedule.share(step, 100) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_warmup_rises_evenly_from_above_zero_to_the_peak() -> None:
    schedule = ScheduleSpec(warmup=4, decay="linear", final=0.0)
    shares = [schedule.share(step, 8) for step in range(8)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 2 / 3, 1 / 3, 0])
    assert ScheduleSpec(decay="none", final=0.0).share(7, 8) == 1.0


def test_the_cosine_is_its_closed_formula() -> None:
    schedule = ScheduleSpec(warmup=3, decay="cosine", final=0.2)
    for step in range(3, 20):
        wanted = 0.2 + 0.4 * (1 + math.cos(math.pi * (step - 3) / 16))
        assert schedule.share(step, 20) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("final", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("warmup", [0, 1, 100])
def test_the_warmup_its_end_and_the_last_step_are_exact(decay: str, final: float, warmup: int) -> None:
    schedule = ScheduleSpec(warmup=warmup, decay=decay, final=final)  # type: ignore[arg-type]
    if warmup:
        assert schedule.share(0, 2000) == 1 / (warmup + 1)
        assert schedule.share(warmup - 1, 2000) == warmup / (warmup + 1)
    assert schedule.share(warmup, 2000) == 1.0
    assert schedule.share(1999, 2000) == final


def test_a_run_that_ends_with_its_warmup_ends_at_the_peak() -> None:
    assert ScheduleSpec().share(0, 1) == 1.0
    assert ScheduleSpec(warmup=7).share(7, 8) == 1.0


@pytest.mark.parametrize("bad", [{"warmup": -1}, {"final": -0.1}, {"final": 1.1}, {"final": float("nan")}])
def test_what_makes_no_schedule_is_refused(bad: dict) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        ScheduleSpec(**bad)
