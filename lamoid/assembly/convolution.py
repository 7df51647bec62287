"""Convolution over time as a mixer: a value map, one filter a channel (Sifre, 2014), an activation, an output map.

The filters mix time and nothing else, the maps width and nothing else, as attention's shares and its value and output
maps do; a token of a long text costs what one of a short text costs.
"""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import MOST_WIDTH, whole
from lamoid.assembly.cache import Kept
from lamoid.assembly.documents import is_plain, spread
from lamoid.assembly.feedforward import ACTIVATIONS, Activation
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import DenseSpec, LinearSpec
from lamoid.assembly.scope import Scope
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec


class ConvolutionSpec(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="convolution", kw_only=True
):
    """output(activation(taps * value(x))), ``kernel`` taps a channel, over the stream's width or ``hidden`` channels.

    A causal one reads a token and the kernel - 1 before it. An ordinary, bidirectional one stands with its middle on
    the token (an even one with the place before its middle). Beyond a document there are zeros.
    """

    kernel: int
    hidden: int = 0
    sees: CausalSpec | BidirectionalSpec = CausalSpec()
    activation: Activation = "silu"
    bias: bool = True
    value: LinearSpec = DenseSpec()
    output: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("convolution.kernel", self.kernel, 1, 1 << 16)
        whole("convolution.hidden", self.hidden, 0, MOST_WIDTH)

    @property
    def is_causal(self) -> bool:
        """Can it read token by token?"""
        return isinstance(self.sees, CausalSpec)

    @property
    def before(self) -> int:
        """How many tokens before its own a filter reads."""
        return self.kernel - 1 if self.is_causal else (self.kernel - 1) // 2

    def channels(self, width: int) -> int:
        """Give the number of filters where the stream has ``width``."""
        return self.hidden or width

    def build(self, scope: Scope) -> "Convolution":
        return Convolution(self, scope)

    def parameters(self, scope: Scope) -> int:
        inner = self.channels(scope.width)
        maps = self.value.parameters(scope.width, inner) + self.output.parameters(inner, scope.width)
        return maps + inner * (self.kernel + self.bias)

    def flops(self, scope: Scope, context: int) -> int:
        """Count the operations for one token."""
        inner = self.channels(scope.width)
        maps = self.value.flops(scope.width, inner) + self.output.flops(inner, scope.width)
        return maps + 2 * inner * self.kernel

    def cache_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one token: only the last few are."""
        return 0

    def state_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one text, however long."""
        return (self.kernel - 1) * self.channels(scope.width)


class Convolution(nn.Module):
    """(B, T, C) to (B, T, C)."""

    def __init__(self, spec: ConvolutionSpec, scope: Scope) -> None:
        super().__init__()
        inner = spec.channels(scope.width)
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]
        self.value = spec.value.build(scope.width, inner)
        self.taps = nn.Parameter(torch.empty(inner, spec.kernel))
        self.bias = nn.Parameter(torch.empty(inner)) if spec.bias else None
        self.output = spec.output.build(inner, scope.width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        values = self.value(x)
        if layout.cache is not None:
            filtered = self._filter_behind(values, layout.cache.kept(self), layout)
        else:
            filtered = self._filter_documents(values, layout)
        return self.output(self.activation(filtered))

    def _filter_documents(self, values: Tensor, layout: Layout) -> Tensor:
        """Filter each document by itself: no tap reads another one, nor padding."""
        spec = self.spec
        before, after = spec.before, spec.kernel - 1 - spec.before
        if not after and is_plain(layout):
            return self._filter(nn.functional.pad(values, (0, 0, before, 0)))
        apart = spread(layout, max(before, after))
        if apart is None:
            return self._filter(nn.functional.pad(values, (0, 0, before, after)))
        places, length = apart
        row = torch.arange(len(values), device=values.device)[:, None]
        wide = values.new_zeros(len(values), length + before + after, values.shape[-1])
        wide = wide.index_put((row, places + before), values)
        return self._filter(wide)[row, places]

    def _filter_behind(self, values: Tensor, kept: Kept, layout: Layout) -> Tensor:
        """Filter new tokens behind the last real ones of each row, and keep the last real ones anew."""
        behind = self.spec.kernel - 1
        if kept.tensors is None:
            kept.tensors = (values.new_zeros(len(values), behind, values.shape[-1]),)
        joined = torch.cat((kept.tensors[0], values), dim=1)
        if layout.documents is None:
            kept.tensors = (joined[:, joined.shape[1] - behind :],)
        else:
            row = torch.arange(len(values), device=values.device)[:, None]
            places = (layout.documents != 0).sum(1, keepdim=True) + torch.arange(behind, device=values.device)
            kept.tensors = (joined[row, places],)
        return self._filter(joined)

    def _filter(self, values: Tensor) -> Tensor:
        """Filter (B, T + kernel - 1, C) to (B, T, C).

        As a picture of height 1 whose channels lie innermost, which is how the stream lies: on the CPU several times as
        fast as a convolution in one dimension, and nothing is transposed.
        """
        picture = values.transpose(1, 2)[:, :, None]
        filtered = nn.functional.conv2d(picture, self.taps[:, None, None], self.bias, groups=len(self.taps))
        return filtered[:, :, 0].transpose(1, 2)
