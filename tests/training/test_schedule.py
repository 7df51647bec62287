"""The schedule against torch's own, and at its corners."""

import itertools
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


@pytest.mark.parametrize("decay", ["cosine", "linear", "sqrt"])
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


@pytest.mark.parametrize("decay", ["cosine", "linear", "sqrt"])
def test_a_decay_at_the_end_leaves_the_peak_alone_until_then(decay: str) -> None:
    schedule = ScheduleSpec(warmup=5, decay=decay, final=0.2, decay_steps=20)  # type: ignore[arg-type]
    shares = [schedule.share(step, 100) for step in range(100)]
    assert shares[5:80] == [1.0] * 75, "20 steps are below the peak"
    assert all(before > after for before, after in itertools.pairwise(shares[79:]))
    assert shares[99] == 0.2
    # The end is the whole decay of a run of that length: 20 steps after one at the peak.
    whole = ScheduleSpec(decay=decay, final=0.2)  # type: ignore[arg-type]
    assert shares[79:] == [whole.share(step, 21) for step in range(21)]
    by_share = ScheduleSpec(warmup=5, decay=decay, final=0.2, decay_share=0.2)  # type: ignore[arg-type]
    assert [by_share.share(step, 100) for step in range(100)] == shares


def test_the_forms_of_the_decays_are_their_formulas() -> None:
    for step in range(101):
        done = step / 100
        assert ScheduleSpec(decay="sqrt", final=0.0).share(step, 101) == pytest.approx(1 - math.sqrt(done))
        assert ScheduleSpec(decay="linear", final=0.0).share(step, 101) == pytest.approx(1 - done)


def test_inverse_sqrt_is_the_transformers() -> None:
    """Vaswani et al. (2017), equation 3: proportional to min(n^-0.5, n warmup^-1.5) for step n, from 1."""
    schedule = ScheduleSpec(warmup=9, decay="inverse_sqrt", final=0.0)
    for number in range(1, 300):
        paper = min(number**-0.5, number * 10**-1.5) / 10**-0.5
        assert schedule.share(number - 1, 300) == pytest.approx(paper)
    assert ScheduleSpec(warmup=9, decay="inverse_sqrt", final=0.4).share(299, 300) == 0.4


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("gain", [0.0, 0.05])
def test_a_plateau_is_torchs(patience: int, gain: float) -> None:
    noise = torch.rand(200).tolist()
    losses = [3.0 - min(number, 60) / 100 + 0.1 * noise[number] for number in range(200)]
    losses[70] = float("nan")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.7, patience=patience, threshold=gain, threshold_mode="abs", min_lr=0.05, eps=0.0
    )
    schedule = ScheduleSpec(decay="plateau", final=0.05, factor=0.7, patience=patience, least_gain=gain)
    validations: list[tuple[int, float]] = []
    for number, loss in enumerate(losses):
        reference.step(loss)
        validations.append((10 * (number + 1), loss))
        assert schedule.level(validations) == pytest.approx(optimizer.param_groups[0]["lr"]), number
    assert schedule.level(validations) < 0.7
    assert ScheduleSpec().level(validations) == 1.0


def test_a_plateau_does_not_begin_in_the_warmup() -> None:
    schedule = ScheduleSpec(warmup=20, decay="plateau", patience=1)
    rising = [(step, float(step)) for step in range(5, 25, 5)]
    assert schedule.level(rising) == 1.0
    assert schedule.level([*rising, (25, 2.0), (30, 2.5), (35, 2.5)]) == 0.5
    assert schedule.share(10, 100) == 11 / 21
    assert schedule.share(99, 100) == 1.0


@pytest.mark.parametrize(
    ("schedule", "steps", "named"),
    [
        (ScheduleSpec(warmup=10), 10, r"schedule\.warmup"),
        (ScheduleSpec(warmup=5, decay_steps=6), 11, r"schedule\.decay_steps"),
        (ScheduleSpec(warmup=5, decay_share=0.5), 10, r"schedule\.decay_share"),
    ],
)
def test_what_does_not_fit_into_a_run_is_refused(schedule: ScheduleSpec, steps: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        schedule.check(steps, "training.steps")
    schedule.check(2 * steps, "training.steps")


@pytest.mark.parametrize(
    "bad",
    [
        {"warmup": -1},
        {"final": -0.1},
        {"final": 1.1},
        {"final": float("nan")},
        {"decay_steps": -1},
        {"decay_share": 1.5},
        {"decay_share": float("nan")},
        {"decay_share": 0.5, "decay_steps": 3},
        {"decay_steps": 3, "decay": "none"},
        {"decay_share": 0.1, "decay": "plateau"},
        {"factor": 1.0},
        {"factor": 0.0},
        {"patience": -1},
        {"least_gain": float("inf")},
    ],
)
def test_what_makes_no_schedule_is_refused(bad: dict) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        ScheduleSpec(**bad)
