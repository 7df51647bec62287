"""The schedule against torch's own, and at its corners."""

import pytest
import torch

from lamoid.errors import InputError
from lamoid.training.schedule import ScheduleSpec


def test_cosine_is_torchs_cosine_annealing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90, eta_min=0.1)
    schedule = ScheduleSpec(warmup=10, decay="cosine", final=0.1)
    for step in range(10, 100):
        assert schedule.share(step, 100) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_warmup_rises_evenly_from_above_zero_to_the_peak() -> None:
    schedule = ScheduleSpec(warmup=4, decay="linear", final=0.0)
    assert [schedule.share(step, 8) for step in range(9)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 0.75, 0.5, 0.25, 0])
    assert ScheduleSpec(decay="none", final=0.0).share(7, 8) == 1.0


@pytest.mark.parametrize("bad", [{"warmup": -1}, {"final": -0.1}, {"final": 1.1}, {"final": float("nan")}])
def test_what_makes_no_schedule_is_refused(bad: dict) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        ScheduleSpec(**bad)
