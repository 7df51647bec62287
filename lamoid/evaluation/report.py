"""Figures with all that is needed to trust them: JSON first, tables and pictures are drawn from it."""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from lamoid.evaluation.compare import Interval, interval, ratio, resample_ratios
from lamoid.evaluation.perplexity import Loss


class Report(msgspec.Struct, frozen=True):
    """One figure: of ``count`` tokens in ``units`` resampled documents or blocks, for one model on one text."""

    model: str
    metric: str
    value: float
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
    def perplexity(self) -> float:
        return math.exp(self.nats_per_token)

    @property
    def perplexity_interval(self) -> Interval | None:
        if self.nats_per_token_interval is None:
            return None
        low, high = self.nats_per_token_interval
        return math.exp(low), math.exp(high)


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
    """The summed nats, scored tokens and bytes of each unit, for models that read the same units: (models, units)."""

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray

    @classmethod
    def of(cls, losses: list[list[Loss]]) -> "Measured":
        """Stack the models' losses; units in which some model scored no token are left out."""
        table = [np.array([[getattr(loss, name) for loss in row] for row in losses], np.float64) for name in FIELDS]
        kept = (table[1] > 0).all(axis=0)
        return cls(*(part[:, kept] for part in table))

    def figures(self, seed: int) -> list[Figures]:
        """Give each model's figures, the intervals by a bootstrap over units with the same draws for all."""
        bits = self.nats / math.log(2.0)
        token_draws = resample_ratios(self.nats, self.tokens, seed=seed)
        byte_draws = resample_ratios(bits, self.bytes, seed=seed)
        return [
            Figures(
                ratio(self.nats[row], self.tokens[row]),
                interval(token_draws[row], self.nats.shape[1]),
                ratio(bits[row], self.bytes[row]),
                interval(byte_draws[row], self.nats.shape[1]),
                int(self.tokens[row].sum()),
                int(self.bytes[row].sum()),
            )
            for row in range(len(self.nats))
        ]

    def difference(self, row: int, other: int, seed: int, *, per: str = "tokens") -> tuple[float, Interval | None]:
        """Give a model's loss minus another's, in nats a token or (``per="bytes"``) bits a byte, with its interval."""
        pair = [row, other]
        sizes = self.tokens[pair] if per == "tokens" else self.bytes[pair] * math.log(2.0)
        draws = resample_ratios(self.nats[pair], sizes, seed=seed)
        value = ratio(self.nats[row], sizes[0]) - ratio(self.nats[other], sizes[1])
        return value, interval(draws[0] - draws[1], self.nats.shape[1])


FIELDS = ("nats", "tokens", "bytes")
