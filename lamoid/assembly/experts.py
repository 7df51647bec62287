"""A mixture of experts: each token is read by the few feed-forwards that a router picks (Shazeer et al., 2017)."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import at_least_zero, whole
from lamoid.assembly.feedforward import GatedSpec, NoFeedForwardSpec, PlainSpec
from lamoid.assembly.layout import Balance, Layout
from lamoid.assembly.linear import DenseSpec, LinearSpec


class ExpertsSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="experts"):
    """``chosen`` of the ``experts`` read each token, weighed by the router's softmax, beside a ``shared`` one.

    With ``normalised`` the weights of the chosen sum to 1. ``balance`` weighs the term that keeps experts equally busy:
    experts x sum over them of (share of tokens that chose it x mean probability), Fedus et al., 2021, equation 4, over
    the tokens that are not padding; ``chosen`` where the experts are equally busy.
    """

    experts: tuple[PlainSpec | GatedSpec, ...]
    chosen: int = 2
    router: LinearSpec = DenseSpec()
    shared: PlainSpec | GatedSpec | NoFeedForwardSpec = NoFeedForwardSpec()
    normalised: bool = True
    balance: float = 0.01

    def __post_init__(self) -> None:
        whole("experts.number of experts", len(self.experts), 1, 4096)
        whole("experts.chosen", self.chosen, 1, len(self.experts))
        at_least_zero("experts.balance", self.balance)

    def build(self, width: int) -> "Experts":
        return Experts(self, width)

    def parameters(self, width: int) -> int:
        inside = sum(expert.parameters(width) for expert in self.experts) + self.shared.parameters(width)
        return inside + self.router.parameters(width, len(self.experts))

    def flops(self, width: int) -> int:
        """Count the operations for one token: the router's, those of the costliest chosen experts, the shared one's."""
        busy = sorted((expert.flops(width) for expert in self.experts), reverse=True)[: self.chosen]
        return self.router.flops(width, len(self.experts)) + sum(busy) + self.shared.flops(width)


class Experts(nn.Module):
    """(B, T, C) to (B, T, C)."""

    def __init__(self, spec: ExpertsSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.router = spec.router.build(width, len(spec.experts))
        self.experts = nn.ModuleList(expert.build(width) for expert in spec.experts)
        self.shared = None if isinstance(spec.shared, NoFeedForwardSpec) else spec.shared.build(width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        odds = self.router(flat).float().softmax(-1)
        weights, chosen = odds.topk(self.spec.chosen, dim=-1)
        if self.spec.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        if self.training and self.spec.balance:
            layout.balances.append(self._balance(odds, chosen, layout))
        mixed = self._mix(flat, weights, chosen, layout).view(x.shape)
        return mixed if self.shared is None else mixed + self.shared(x, layout)

    def _mix(self, flat: Tensor, weights: Tensor, chosen: Tensor, layout: Layout) -> Tensor:
        """Let each expert read its own tokens only, (N, C) to (N, C): choices are sorted by expert, then cut."""
        choices = chosen.flatten()
        order = choices.argsort(stable=True)
        counts = torch.bincount(choices, minlength=len(self.experts)).tolist()
        tokens = order // self.spec.chosen
        parts = flat[tokens].split(counts)
        # An expert without a token is left out, but while training: it then has gradients of 0, as if it were there.
        answers = [
            expert(part, layout)
            for expert, part in zip(self.experts, parts, strict=True)
            if len(part) or torch.is_grad_enabled()
        ]
        weighed = torch.cat(answers) * weights.flatten()[order, None]
        return torch.zeros_like(flat).index_add_(0, tokens, weighed.to(flat.dtype))

    def _balance(self, odds: Tensor, chosen: Tensor, layout: Layout) -> Balance:
        """Give the balancing term over the tokens that are not padding."""
        documents = layout.documents
        real = torch.ones_like(odds[:, 0]) if documents is None else (documents != 0).flatten().float()
        count = real.sum().clamp(min=1)
        picked = odds.new_zeros(odds.shape[-1]).index_add(0, chosen.flatten(), real.repeat_interleave(self.spec.chosen))
        mean = (odds * real[:, None]).sum(0) / count
        return Balance(len(self.experts) * (picked / count * mean).sum(), count, self.spec.balance)
