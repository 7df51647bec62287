"""Figures over several texts that count by weights of their own: one weighted loss, its interval and differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lamoid.evaluation.compare import Interval, interval
from lamoid.evaluation.report import Figures, Measured


@dataclass(frozen=True)
class Joined:
    """Several ``Measured`` of the same models, whose losses count by ``weights``, which come to 1.

    The parts are resampled independently of each other, all models in one part together: give each its own seed.
    """

    parts: Sequence[Measured]
    weights: Sequence[float]

    @property
    def units(self) -> int:
        """Give the units of the part that has the fewest: what the intervals rest on."""
        return min(part.nats.shape[1] for part in self.parts)

    def figures(self) -> list[Figures]:
        """Give each model's weighted figures, with intervals; tokens and bytes are those of all parts."""
        each = list(zip(*(part.figures() for part in self.parts), strict=True))
        return [
            Figures(
                self._mean([found.nats_per_token for found in model]),
                interval(self._draws(row, 0), self.units),
                self._mean([found.bits_per_byte for found in model]),
                interval(self._draws(row, 1), self.units),
                sum(found.tokens for found in model),
                sum(found.bytes for found in model),
            )
            for row, model in enumerate(each)
        ]

    def difference(self, row: int, other: int) -> tuple[float, Interval | None]:
        """Give a model's weighted loss minus another's in nats a token, with the interval of pairs."""
        value = self._mean([part.difference(row, other)[0] for part in self.parts])
        return value, interval(self._draws(row, 0) - self._draws(other, 0), self.units)

    def _mean(self, values: Sequence[float]) -> float:
        return math.fsum(weight * value for weight, value in zip(self.weights, values, strict=True))

    def _draws(self, row: int, kind: int) -> np.ndarray:
        parts = zip(self.weights, self.parts, strict=True)
        return np.sum([weight * part.draws[kind][row] for weight, part in parts], axis=0)
