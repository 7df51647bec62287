"""Normalisation of the last dimension: RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016)."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import positive


class RMSNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rms_norm"):
    """x / sqrt(mean(x^2) + epsilon) * weight."""

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        positive("rms_norm.epsilon", self.epsilon, high=1.0)

    def build(self, width: int) -> "RMSNorm":
        return RMSNorm(width, self.epsilon)

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


NormSpec = RMSNormSpec | LayerNormSpec


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


class LayerNorm(nn.Module):
    """(..., C) to (..., C)."""

    def __init__(self, width: int, epsilon: float, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)
