"""Normalisation of the last dimension: RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016)."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import positive


class NoNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """x as it is."""

    def build(self, width: int) -> nn.Module:
        return nn.Identity()

    def parameters(self, width: int) -> int:
        return 0


class RMSNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rms_norm"):
    """x / sqrt(mean(x^2) + epsilon) * weight, or * (1 + weight) with ``unit_offset``, as Gemma has it."""

    epsilon: float = 1e-6
    unit_offset: bool = False

    def __post_init__(self) -> None:
        positive("rms_norm.epsilon", self.epsilon, high=1.0)

    def build(self, width: int) -> "RMSNorm":
        return UnitRMSNorm(width, self.epsilon) if self.unit_offset else RMSNorm(width, self.epsilon)

    def parameters(self, width: int) -> int:
        return width


class LayerNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="layer_norm"):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias."""

    epsilon: float = 1e-5
    bias: bool = True

    def __post_init__(self) -> None:
        positive("layer_norm.epsilon", self.epsilon, high=1.0)

    def build(self, width: int) -> "LayerNorm":
        return LayerNorm(width, self.epsilon, self.bias)

    def parameters(self, width: int) -> int:
        return 2 * width if self.bias else width


NormSpec = RMSNormSpec | LayerNormSpec | NoNormSpec


class RMSNorm(nn.Module):
    """(..., C) to (..., C); the mean square is taken in float32, as Hugging Face's LLaMA takes it."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32 == self.weight.dtype:
            return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)


class UnitRMSNorm(RMSNorm):
    """(..., C) to (..., C); the stored weight is the distance from 1, and all of it is computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        wide = nn.functional.rms_norm(x.float(), self.weight.shape, 1.0 + self.weight.float(), self.epsilon)
        return wide.to(x.dtype)


class LayerNorm(nn.Module):
    """(..., C) to (..., C)."""

    def __init__(self, width: int, epsilon: float, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)
