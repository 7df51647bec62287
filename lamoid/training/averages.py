"""Averages of a model's parameters over the steps of its training."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import below_one, positive, whole
from lamoid.assembly.surgery import Change
from lamoid.errors import InputError
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.schedule import MOST_STEPS
from lamoid.training.state import TrainingState
from lamoid.weighing.moving import decayed_share, move_averages
from lamoid.weighing.softmax import softmax_weights
from lamoid.weighing.sum import weighted_sum

Values = dict[str, Tensor]


class EmaSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ema"):
    """The parameters after every ``every``-th step that follows ``start``; each weighs ``decay`` times the next.

    With ``final`` the average is what the run saves as its model.
    """

    decay: float = 0.999
    every: int = 1
    start: int = 0
    final: bool = False

    def __post_init__(self) -> None:
        below_one("decay", self.decay)
        whole("every", self.every, 1, MOST_STEPS)
        whole("start", self.start, 0, MOST_STEPS)

    @property
    def copies(self) -> int:
        """How many copies of the parameters it keeps."""
        return 1

    def begin(self) -> "Ema":
        """Make the average of nothing yet."""
        return Ema(self)


class LastSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="last"):
    """The last ``keep`` of the models after every ``every``-th step, weighed alike or by what they were measured at.

    With ``weights`` "losses" w_i = exp(-L_i / tau) / sum_j exp(-L_j / tau) of the validation losses after those steps.
    """

    every: int = 100
    keep: int = 5
    weights: Literal["equal", "losses"] = "equal"
    tau: float = 1.0
    start: int = 0
    final: bool = False

    def __post_init__(self) -> None:
        whole("every", self.every, 1, MOST_STEPS)
        whole("keep", self.keep, 1, 1000)
        whole("start", self.start, 0, MOST_STEPS)
        positive("tau", self.tau)

    @property
    def copies(self) -> int:
        """How many copies of the parameters it keeps."""
        return self.keep

    def begin(self) -> "Last":
        """Make the average of nothing yet."""
        return Last(self)


AverageSpec = EmaSpec | LastSpec


class Average(Protocol):
    """A part of a run's state that gathers parameters; a hook to be called after every step, behind the evaluation."""

    @property
    def count(self) -> int: ...

    def __call__(self, state: TrainingState) -> None: ...

    def values(self) -> Values: ...

    def weights(self) -> dict[int, float]: ...

    def tensors(self) -> Values: ...

    def load(self, tensors: Values) -> None: ...

    def apply(self, change: Change, model: nn.Module) -> None: ...


class Ema:
    """An exponential moving average, in float32; ``count`` values are in it."""

    def __init__(self, spec: EmaSpec) -> None:
        self.spec, self.count = spec, 0
        self._values: Values = {}

    @torch.no_grad()
    def __call__(self, state: TrainingState) -> None:
        """Take in the parameters of the moment, if they are due."""
        if not _is_due(self.spec, state.step):
            return
        named = trained_parameters(state.model)
        if not self._values:
            self._values = {name: parameter.detach().float().clone() for name, parameter in named}
        self.count += 1
        if next(iter(self._values.values())).device != state.model.device:  # a checkpoint is read to the host
            self._values = {name: value.to(state.model.device) for name, value in self._values.items()}
        averages = [self._values[name] for name, _ in named]
        move_averages(
            averages, [parameter.detach() for _, parameter in named], decayed_share(self.spec.decay, self.count)
        )

    def values(self) -> Values:
        """Give the average by the parameters' names; nothing if nothing is in it."""
        return dict(self._values)

    def weights(self) -> dict[int, float]:
        """Give nothing: all steps are in it."""
        return {}

    def tensors(self) -> Values:
        return {"count": torch.tensor(self.count), **{f"values/{name}": value for name, value in self._values.items()}}

    def load(self, tensors: Values) -> None:
        _check(tensors, "count")
        self.count = int(tensors["count"].item())
        self._values = _below(tensors, "values/")

    def apply(self, change: Change, model: nn.Module) -> None:
        """Follow surgery: what is new to the model counts as if it had been so all the time."""
        if self._values:
            self._values = _followed(self._values, change, model)


class Last:
    """The last few models as they were, in the host's memory, each with its step and validation loss."""

    def __init__(self, spec: LastSpec) -> None:
        self.spec = spec
        self._kept: list[tuple[int, float, Values]] = []

    @property
    def count(self) -> int:
        """How many models are in it."""
        return len(self._kept)

    def __call__(self, state: TrainingState) -> None:
        """Take in the parameters of the moment, if they are due."""
        if not _is_due(self.spec, state.step):
            return
        found = dict(state.validations).get(state.step)
        loss = math.nan if found is None else found
        if self.spec.weights == "losses" and not math.isfinite(loss):
            what = "was not measured" if found is None else f"is {loss}"
            cure = "let average.every be a multiple of evaluation.every" if found is None else 'say weights = "equal"'
            problem = f"is to weigh the model of step {state.step} by its loss, which {what}"
            raise InputError("average.weights", problem, cure)
        named = trained_parameters(state.model)
        values = {name: parameter.detach().to("cpu", torch.float32, copy=True) for name, parameter in named}
        self._kept = [*self._kept, (state.step, loss, values)][-self.spec.keep :]

    def values(self) -> Values:
        """Give the average by the parameters' names; nothing if nothing is in it."""
        if not self._kept:
            return {}
        weights = list(self.weights().values())
        names = self._kept[0][2]
        return {name: weighted_sum([values[name] for _, _, values in self._kept], weights) for name in names}

    def weights(self) -> dict[int, float]:
        """Give the weight of each step's model."""
        losses = [loss if self.spec.weights == "losses" else 0.0 for _, loss, _ in self._kept]
        weights = softmax_weights(losses, self.spec.tau) if losses else []
        return dict(zip([step for step, _, _ in self._kept], weights, strict=True))

    def tensors(self) -> Values:
        named: Values = {
            "steps": torch.tensor([step for step, _, _ in self._kept], dtype=torch.int64),
            "losses": torch.tensor([loss for _, loss, _ in self._kept], dtype=torch.float64),
        }
        for number, (_, _, values) in enumerate(self._kept):
            named |= {f"{number}/{name}": value for name, value in values.items()}
        return named

    def load(self, tensors: Values) -> None:
        _check(tensors, "steps", "losses")
        steps, losses = tensors["steps"].tolist(), tensors["losses"].tolist()
        self._kept = [
            (step, loss, _below(tensors, f"{number}/"))
            for number, (step, loss) in enumerate(zip(steps, losses, strict=True))
        ]

    def apply(self, change: Change, model: nn.Module) -> None:
        """Follow surgery: what is new to the model counts as if it had been so all the time."""
        self._kept = [(step, loss, _followed(values, change, model)) for step, loss, values in self._kept]


@contextmanager
def exchanged(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a model have other numbers for a while: those of ``values`` by the parameters' names."""
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in values}
    try:
        put_values(model, values)
        yield
    finally:
        put_values(model, kept)


@torch.no_grad()
def put_values(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Write numbers into the parameters of these names."""
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)


def _is_due(spec: AverageSpec, step: int) -> bool:
    return step > spec.start and step % spec.every == 0


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Values:
    return {name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)}


def _check(tensors: Mapping[str, Tensor], *names: str) -> None:
    missing = [name for name in names if name not in tensors]
    if missing:
        raise InputError("average", f"has no {missing[0]} in the checkpoint", "resume with the recipe of the run")


def _followed(values: Values, change: Change, model: nn.Module) -> Values:
    """Give the values by the names that the model has after surgery; the model's own for what is new."""
    came_from = {**{new: old for old, new in change.kept.items()}, **change.copied}
    found: Values = {}
    for name, parameter in trained_parameters(model):
        old = values.get(came_from.get(name, ""), parameter.detach().float())
        found[name] = (old if old.shape == parameter.shape else parameter.detach().float()).clone()
    return found
