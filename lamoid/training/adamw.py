"""AdamW (Loshchilov and Hutter, 2019)."""

import torch

from lamoid.assembly.bounds import at_least_zero, below_one, positive
from lamoid.training.optimizer import OptimizerRule
from lamoid.training.parameter_groups import Named, torch_groups


class AdamWSpec(OptimizerRule, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="adamw"):
    """AdamW; the decay acts on matrices only."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        positive("learning_rate", self.learning_rate)
        positive("epsilon", self.epsilon)
        at_least_zero("weight_decay", self.weight_decay)
        for beta in self.betas:
            below_one("betas", beta)

    def parts(self, named: Named) -> list[torch.optim.Optimizer]:
        """Make torch's AdamW; the fused kernel, one call for all tensors of a group, runs on the CPU and on CUDA."""
        groups = torch_groups(named, self.groups, self.learning_rate, self.weight_decay)
        fused = {parameter.device.type for _, parameter in named} <= {"cpu", "cuda"}
        return [torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, eps=self.epsilon, fused=fused)]
