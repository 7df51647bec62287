"""What changes while training: everything that a checkpoint must hold to go on as if nothing had happened."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lamoid.assembly.model import LanguageModel
from lamoid.assembly.surgery import Change
from lamoid.training.compute import ComputeSpec, Reader
from lamoid.training.incident import Incident
from lamoid.training.loss_scale import LossScale
from lamoid.training.move_report import MoveReport
from lamoid.training.optimizer import Optimizer
from lamoid.training.precision import Dtype
from lamoid.training.term_losses import TermLosses

_MOST_UNREAD = 256


class Part(Protocol):
    """Something else that a checkpoint must hold, such as an average of the weights; numbers are 0-d tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """Give everything that ``load`` needs to go on as if nothing had happened."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave; ``InputError`` if it is not that."""
        ...


@runtime_checkable
class FollowsChange(Protocol):
    """A part that depends on the model's parameters, and so must follow surgery."""

    def apply(self, change: Change, model: Any) -> None:
        """Follow ``model``, a model or a group, after ``change``."""
        ...


Judge = Callable[[int, float, float], None]


def _accept(step: int, loss: float, norm: float) -> None:
    """Find nothing wrong."""


@dataclass
class TrainingState:
    """A model on its way to ``steps`` optimiser steps, ``step`` of which are done.

    ``losses`` has the loss of every step, ``validations`` pairs of step and validation loss, ``moves`` what was made
    of the model on the way, ``terms`` what each loss is made of. ``undone`` is such a pair of a step that was taken
    back, whose model was kept as the best. ``seconds`` and ``tokens`` count all steps that led
    here, also those before a resume, without evaluations and writing.
    In ``bfloat16`` and ``float16`` the weights and the optimiser stay in float32; ``reader``, which objectives are
    given, computes with a copy of them.
    """

    model: LanguageModel
    optimizer: Optimizer
    steps: int
    dtype: Dtype = "float32"
    step: int = 0
    validations: list[tuple[int, float]] = field(default_factory=list)
    undone: tuple[int, float] | None = None
    moves: list[MoveReport] = field(default_factory=list)
    terms: TermLosses = field(default_factory=TermLosses)
    share: float = 0.0
    parts: dict[str, Part] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    compute: ComputeSpec = field(default_factory=ComputeSpec)
    _losses: list[float] = field(default_factory=list)
    judge: Judge = _accept
    _norm: float | Tensor = 0.0
    _unread: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _reader: Reader | None = None

    def __post_init__(self) -> None:
        if self.dtype == "float16":
            self.parts.setdefault("loss_scale", LossScale())

    @property
    def reader(self) -> LanguageModel:
        """Give the model that objectives are given, with the numbers that ``model`` has now: ask once a step."""
        if self._reader is None or not self._reader.is_of(self.model):
            self._reader = Reader(self.model, self.dtype, self.compute)
        self._reader.refresh()
        return self._reader.model

    def collect(self) -> None:
        """Hand the reader's gradients on to the model's parameters, as those of the loss itself."""
        if self._reader is not None:
            self._reader.collect(1.0 if self.scale is None else 1.0 / self.scale.value)

    @property
    def scale(self) -> LossScale | None:
        """Give what the loss is multiplied by before its gradient is taken; ``None``: by nothing."""
        part = self.parts.get("loss_scale")
        return part if isinstance(part, LossScale) else None

    @property
    def losses(self) -> list[float]:
        """Give the loss of every step; raise what ``Update`` says of one that was no number."""
        self._settle()
        return self._losses

    @losses.setter
    def losses(self, losses: list[float]) -> None:
        self._unread.clear()
        self._losses = losses

    @property
    def gradient_norm(self) -> float:
        """Give the joint norm of the last step's gradients, before they were clipped."""
        self._settle()
        return float(self._norm)

    @gradient_norm.setter
    def gradient_norm(self, norm: float | Tensor) -> None:
        self._norm = norm

    def note(self, loss: float | Tensor | None) -> None:
        """Note the loss of the step that is being made; ``None`` if it has none.

        A tensor on a device, with a norm that is one too, is not read until somebody asks: then ``judge`` is told step,
        loss and norm, and may raise.
        """
        if isinstance(loss, Tensor) and isinstance(self._norm, Tensor):
            self._unread.append((loss, self._norm))
            if len(self._unread) >= _MOST_UNREAD:
                self._settle()
        else:
            self.losses.append(math.nan if loss is None else float(loss))

    def _settle(self) -> None:
        if not self._unread:
            return
        numbers = torch.stack([number.double() for pair in self._unread for number in pair]).tolist()
        self._unread.clear()
        for loss, norm in zip(numbers[::2], numbers[1::2], strict=True):
            self.judge(len(self._losses) + 1, loss, norm)
            self._losses.append(loss)
            self._norm = norm

    def apply(self, change: Change) -> None:
        """Let the optimiser and every part that depends on the parameters follow the model after surgery."""
        self.optimizer.apply(change, self.model)
        self._reader = None
        for part in self.parts.values():
            if isinstance(part, FollowsChange):
                part.apply(change, self.model)

    @property
    def best(self) -> tuple[int, float] | None:
        """Give step and loss of the lowest validation loss so far, the earliest of equals; ``None`` for no number."""
        measured = self.validations if self.undone is None else [self.undone, *self.validations]
        return min((pair for pair in measured if math.isfinite(pair[1])), key=lambda pair: pair[1], default=None)

    def recent_loss(self, steps: int) -> float:
        """Give the mean loss of those of the last ``steps`` steps whose loss is a number, or else the last that is."""
        recent = [loss for loss in self.losses[-steps:] if math.isfinite(loss)]
        recent = recent or [loss for loss in reversed(self.losses) if math.isfinite(loss)][:1]
        return sum(recent) / len(recent) if recent else math.nan
