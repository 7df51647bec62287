"""Normalisation of the last dimension: RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016)."""

from typing import Any

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
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                return _Normalise.apply(x, self.weight, self.epsilon)
            return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)


class _Normalise(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) * weight with its gradient written out.

    torch has no kernel for it on a CPU: step by step, with the steps' gradients, it takes 2 to 4 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
        scale = torch.rsqrt(mean + epsilon)
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,), (normed, weight, scale) = grad_outputs, ctx.saved_tensors
        product = gradient * normed
        mean = torch.matmul(product, weight).div_(len(weight)).unsqueeze(-1)
        inner = torch.addcmul(gradient * weight, normed, mean, value=-1).mul_(scale)
        return inner, product.flatten(0, -2).sum(0), None


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
