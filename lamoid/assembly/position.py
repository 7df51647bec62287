"""Positions: a learned table added to the embedding, or rotary angles (Su et al., 2021) with their scalings.

Rotary follows Hugging Face's half-split convention: dimension d is paired with d + D / 2.
"""

import math

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.bounds import MOST_CONTEXT, positive, whole
from lamoid.errors import InputError


class NoPositionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nothing tells one position from another."""


class LearnedPositionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="learned"):
    """A learned row for each position of the context is added to the token's."""


class NoScalingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """The angles as they are."""


class LinearScalingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="linear"):
    """Positions divided by ``factor`` (Chen et al., 2023)."""

    factor: float

    def __post_init__(self) -> None:
        positive("linear.factor", self.factor)


class DynamicScalingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dynamic"):
    """NTK-aware base that grows with the text's length beyond ``original_context``.

    The length is the whole text's in an uncached pass, and the row's capacity in a cached one: so a cached pass equals
    the uncached pass of that length, and nothing depends on how the text was cut into calls or on the texts beside it.
    """

    factor: float
    original_context: int

    def __post_init__(self) -> None:
        positive("dynamic.factor", self.factor)
        whole("dynamic.original_context", self.original_context, 1, MOST_CONTEXT)


class Llama3ScalingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="llama3"):
    """Long wavelengths divided by ``factor``, short ones kept, a ramp between (Llama 3.1)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int

    def __post_init__(self) -> None:
        positive("llama3.factor", self.factor)
        positive("llama3.low_frequency_factor", self.low_frequency_factor)
        positive("llama3.high_frequency_factor", self.high_frequency_factor)
        whole("llama3.original_context", self.original_context, 1, MOST_CONTEXT)
        if self.high_frequency_factor <= self.low_frequency_factor:
            problem = f"is {self.high_frequency_factor}, not above low_frequency_factor {self.low_frequency_factor}"
            raise InputError("llama3.high_frequency_factor", problem, "set it above low_frequency_factor")


class YarnScalingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="yarn"):
    """NTK by parts with an attention temperature (Peng et al., 2023, arXiv 2309.00071)."""

    factor: float
    original_context: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        positive("yarn.factor", self.factor)
        positive("yarn.attention_factor", self.attention_factor)
        positive("yarn.beta_fast", self.beta_fast)
        positive("yarn.beta_slow", self.beta_slow)
        whole("yarn.original_context", self.original_context, 1, MOST_CONTEXT)


ScalingSpec = NoScalingSpec | LinearScalingSpec | DynamicScalingSpec | Llama3ScalingSpec | YarnScalingSpec


class RotarySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rotary"):
    """Queries and keys turned by angles position / base^(2 d / D)."""

    base: float = 10000.0
    scaling: ScalingSpec = NoScalingSpec()

    def __post_init__(self) -> None:
        positive("rotary.base", self.base, high=1e18)
        if self.base <= 1.0:
            raise InputError("rotary.base", f"is {self.base}, must be above 1", "10000 is the usual base")


def rotation(
    spec: RotarySpec, width: int, positions: Tensor, length: int | Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Give cosines and sines, each (B or 1, 1, T, width / 2), for (B or 1, T) positions, worked out in float32."""
    exponents = torch.arange(0, width, 2, device=positions.device).float() / width
    scaling, factor = spec.scaling, 1.0
    if isinstance(scaling, DynamicScalingSpec):
        frequencies = _dynamic(spec.base, scaling, exponents, width, length)
    else:
        frequencies = 1.0 / spec.base**exponents
    if isinstance(scaling, LinearScalingSpec):
        frequencies = frequencies / scaling.factor
    elif isinstance(scaling, Llama3ScalingSpec):
        frequencies = _llama3(scaling, frequencies)
    elif isinstance(scaling, YarnScalingSpec):
        frequencies, factor = _yarn(spec.base, scaling, frequencies, width), scaling.attention_factor
    angles = (positions[..., None].float() * frequencies)[:, None]
    return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn (B, H, T, D) by the angles of ``rotation``."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)


def _dynamic(base: float, scaling: DynamicScalingSpec, exponents: Tensor, width: int, length: int | Tensor) -> Tensor:
    """Raise the base for texts beyond the original context; (D / 2), or (B, T, D / 2) for a length of each token."""
    lengths = torch.as_tensor(length, device=exponents.device, dtype=torch.float32)
    lengths = lengths.clamp(min=scaling.original_context)[..., None]
    growth = scaling.factor * lengths / scaling.original_context - (scaling.factor - 1)
    # A head of width 2 has one frequency, base^0 = 1, whatever the base: the exponent's pole never matters.
    power = width / (width - 2) if width > 2 else 1.0
    return 1.0 / (base * growth**power) ** exponents


def _llama3(scaling: Llama3ScalingSpec, frequencies: Tensor) -> Tensor:
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    turns = scaling.original_context * frequencies / (2 * math.pi)
    ramp = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - ramp) * frequencies / scaling.factor + ramp * frequencies


def _yarn(base: float, scaling: YarnScalingSpec, frequencies: Tensor, width: int) -> Tensor:
    def dimension(turns: float) -> float:
        return width * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    steps = torch.arange(width // 2, device=frequencies.device).float()
    keep = 1 - ((steps - low) / (high - low if high != low else 0.001)).clamp(0, 1)
    return frequencies / scaling.factor * (1 - keep) + frequencies * keep
