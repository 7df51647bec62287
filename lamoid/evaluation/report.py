"""Figures with all that is needed to trust them: JSON first, tables and pictures are drawn from it."""

import math
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from lamoid.evaluation.compare import Interval, interval, ratio, resample_sums
from lamoid.evaluation.perplexity import Loss


class Report(msgspec.Struct, frozen=True):
    """One figure: of ``count`` tokens in ``units`` resampled documents or blocks, for one model on one text.

    ``value`` is None where float64 cannot hold it: a perplexity beyond 1e308.
    """

    model: str
    metric: str
    value: float | None
    interval: Interval | None
    count: int
    units: int
    data_hash: str
    model_hash: str
    seed: int
    command: str


class Figures(msgspec.Struct, frozen=True):
    """What one model came to: each figure with its 95 % interval."""

    nats_per_token: float
    nats_per_token_interval: Interval | None
    bits_per_byte: float
    bits_per_byte_interval: Interval | None
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float | None:
        """Give e to the nats a token; None beyond the largest float64, about 1.8e308."""
        return _exponential(self.nats_per_token)

    @property
    def perplexity_interval(self) -> Interval | None:
        """Give the interval's ends, exponentiated; None where there is none or an end is beyond float64."""
        low, high = (_exponential(end) for end in self.nats_per_token_interval or (math.inf, math.inf))
        return None if low is None or high is None else (low, high)


class Origin(msgspec.Struct, frozen=True):
    """Where figures come from: the text and its units, the seed of the bootstrap, the command."""

    data_hash: str
    units: int
    seed: int
    command: str

    def reports(self, model: str, model_hash: str, figures: Figures) -> list[Report]:
        """Give each of a model's figures as a ``Report``."""
        rows = [
            ("nats_per_token", figures.nats_per_token, figures.nats_per_token_interval),
            ("perplexity", figures.perplexity, figures.perplexity_interval),
            ("bits_per_byte", figures.bits_per_byte, figures.bits_per_byte_interval),
        ]
        here = (figures.tokens, self.units, self.data_hash, model_hash, self.seed, self.command)
        return [Report(model, metric, value, interval, *here) for metric, value, interval in rows]


@dataclass(frozen=True)
class Measured:
    """The summed nats, scored tokens and bytes of each unit, for models that read the same units: (models, units).

    All intervals come from one bootstrap over the units, drawn once with ``seed``, the same draws for all models.
    """

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    seed: int

    @classmethod
    def of(cls, losses: list[list[Loss]], seed: int) -> "Measured":
        """Stack the models' losses; units in which some model scored no token are left out."""
        table = [np.array([[getattr(loss, name) for loss in row] for row in losses], np.float64) for name in FIELDS]
        kept = (table[1] > 0).all(axis=0)
        nats, tokens, size = (part[:, kept] for part in table)
        return cls(nats, tokens, size, seed)

    @cached_property
    def draws(self) -> tuple[np.ndarray, np.ndarray]:
        """Give each model's nats a token and bits a byte in every resample: two of (models, resamples)."""
        sums = resample_sums(np.concatenate([self.nats, self.tokens, self.bytes]), seed=self.seed)
        nats, tokens, size = np.split(sums, 3)
        return nats / tokens, nats / (size * LN2)

    def figures(self) -> list[Figures]:
        """Give each model's figures with their intervals."""
        per_token, per_byte = self.draws
        units = self.nats.shape[1]
        return [
            Figures(
                ratio(self.nats[row], self.tokens[row]),
                interval(per_token[row], units),
                ratio(self.nats[row], self.bytes[row] * LN2),
                interval(per_byte[row], units),
                int(self.tokens[row].sum()),
                int(self.bytes[row].sum()),
            )
            for row in range(len(self.nats))
        ]

    def difference(self, row: int, other: int, *, per: str = "tokens") -> tuple[float, Interval | None]:
        """Give a model's loss minus another's, in nats a token or (``per="bytes"``) bits a byte, with its interval."""
        sizes, draws = (self.tokens, self.draws[0]) if per == "tokens" else (self.bytes * LN2, self.draws[1])
        value = ratio(self.nats[row], sizes[row]) - ratio(self.nats[other], sizes[other])
        return value, interval(draws[row] - draws[other], self.nats.shape[1])


def _exponential(nats: float) -> float | None:
    try:
        return math.exp(nats) if nats < math.inf else None
    except OverflowError:
        return None


FIELDS = ("nats", "tokens", "bytes")
LN2 = math.log(2.0)
