"""Positions: a table added to the embedding, or rotary angles (Su et al., 2021) with their scalings.

Rotary follows Hugging Face's half-split convention: dimension d is paired with d + D / 2.
"""

import math
from typing import Any

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.bounds import MOST_CONTEXT, positive, whole
from lamoid.errors import InputError


class NoPositionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nothing tells one position from another."""


class LearnedPositionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="learned"):
    """A learned row for each position of the context is added to the token's; the first ``offset`` rows are unused."""

    offset: int = 0

    def __post_init__(self) -> None:
        whole("learned.offset", self.offset, 0, 1 << 16)


class SinusoidalPositionSpec(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sinusoidal"
):
    """Sines and cosines of position / base^(2 d / C) are added to the token's row (Vaswani et al., 2017)."""

    base: float = 10000.0

    def __post_init__(self) -> None:
        positive("sinusoidal.base", self.base, high=1e18)


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


class LongRopeScalingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="longrope"):
    """Each frequency divided by a factor of its own (Ding et al., 2024, arXiv 2402.13753).

    ``short`` holds for texts of at most ``original_context`` tokens, ``long`` for longer ones, the length being counted
    as for dynamic scaling; there are as many factors as frequencies. Cosines and sines are scaled by
    ``attention_factor``.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_context: int
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        for name, factors in (("short", self.short), ("long", self.long)):
            whole(f"longrope.number of {name}", len(factors), 1, 1 << 16)
            for factor in factors:
                positive(f"longrope.{name}", factor)
        if len(self.short) != len(self.long):
            problem = f"has {len(self.long)} factors, short has {len(self.short)}"
            raise InputError("longrope.long", problem, "give one factor for each frequency")
        positive("longrope.attention_factor", self.attention_factor)
        whole("longrope.original_context", self.original_context, 1, MOST_CONTEXT)


ScalingSpec = (
    NoScalingSpec | LinearScalingSpec | DynamicScalingSpec | Llama3ScalingSpec | YarnScalingSpec | LongRopeScalingSpec
)


class RotarySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rotary"):
    """Queries and keys turned by angles position / base^(2 d / D).

    ``portion`` of a head's width D is turned, its first dimensions; the others pass.
    """

    base: float = 10000.0
    scaling: ScalingSpec = NoScalingSpec()
    portion: float = 1.0

    def __post_init__(self) -> None:
        positive("rotary.portion", self.portion, high=1.0)
        positive("rotary.base", self.base, high=1e18)
        if self.base <= 1.0:
            raise InputError("rotary.base", f"is {self.base}, must be above 1", "10000 is the usual base")


def rotated_width(spec: RotarySpec, head_width: int) -> int:
    """Give how many of a head's dimensions are turned: portion x head_width, rounded down, which must be even."""
    turned = int(head_width * spec.portion)
    if turned < 2 or turned % 2:
        problem = f"{spec.portion} of head_width {head_width} is {turned} dimensions, which cannot be paired"
        raise InputError("rotary.portion", problem, "choose head_width and portion so that their product is even")
    if isinstance(spec.scaling, LongRopeScalingSpec) and len(spec.scaling.short) != turned // 2:
        problem = f"has {len(spec.scaling.short)} factors, {turned} turned dimensions have {turned // 2} frequencies"
        raise InputError("longrope.short", problem, "give one factor for each frequency")
    return turned


def sinusoids(spec: SinusoidalPositionSpec, positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Give (B or 1, T, C): the sine of each frequency in even dimensions, its cosine in odd ones."""
    exponents = torch.arange(0, width, 2, device=positions.device).float() / width
    angles = positions[..., None].float() / spec.base**exponents
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :width].to(dtype)


def rotation(
    spec: RotarySpec, width: int, positions: Tensor, length: int | Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Give cosines and sines, each (B or 1, 1, T, turned / 2), for (B or 1, T) positions, worked out in float32."""
    width = rotated_width(spec, width)
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
    elif isinstance(scaling, LongRopeScalingSpec):
        frequencies, factor = _longrope(scaling, frequencies, length), scaling.attention_factor
    angles = (positions[..., None].float() * frequencies)[:, None]
    return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn the first dimensions of (B, H, T, D), as many as ``rotation`` gave angles for, twice."""
    turned = 2 * cosines.shape[-1]
    if turned < x.shape[-1]:
        return torch.cat((rotate(x[..., :turned], cosines, sines), x[..., turned:]), dim=-1)
    if x.shape[-2] == 1 or torch.compiler.is_compiling():
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return _Turn.apply(x, cosines, sines)


class _Turn(torch.autograd.Function):
    """The turn in three passes over the numbers; its gradient is the turn by the opposite angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turn(x, cosines, sines)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turn(grad_outputs[0], cosines, -sines), None, None


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    half = cosines.shape[-1]
    turned = (x.unflatten(-1, (2, half)) * cosines.unsqueeze(-2)).flatten(-2)
    turned[..., :half].addcmul_(x[..., half:], sines, value=-1)
    turned[..., half:].addcmul_(x[..., :half], sines)
    return turned


def _dynamic(base: float, scaling: DynamicScalingSpec, exponents: Tensor, width: int, length: int | Tensor) -> Tensor:
    """Raise the base for texts beyond the original context; (D / 2), or (B, T, D / 2) for a length of each token."""
    lengths = torch.as_tensor(length, device=exponents.device, dtype=torch.float32)
    lengths = lengths.clamp(min=scaling.original_context)[..., None]
    growth = scaling.factor * lengths / scaling.original_context - (scaling.factor - 1)
    # A head of width 2 has one frequency, base^0 = 1, whatever the base: the exponent's pole never matters.
    power = width / (width - 2) if width > 2 else 1.0
    return 1.0 / (base * growth**power) ** exponents


def _longrope(scaling: LongRopeScalingSpec, frequencies: Tensor, length: int | Tensor) -> Tensor:
    """Divide by the long factors where the text is longer than the original context; (D / 2), or (B, T, D / 2)."""
    short, long = (frequencies.new_tensor(factors) for factors in (scaling.short, scaling.long))
    if isinstance(length, int):
        return frequencies / (long if length > scaling.original_context else short)
    is_long = (length > scaling.original_context)[..., None]
    return frequencies / torch.where(is_long, long, short)


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
