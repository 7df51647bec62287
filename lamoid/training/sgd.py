"""Stochastic gradient descent with momentum (Polyak, 1964; Sutskever et al., 2013)."""

import torch

from lamoid.assembly.bounds import at_least_zero, below_one, positive
from lamoid.errors import InputError
from lamoid.training.optimizer import OptimizerRule
from lamoid.training.parameter_groups import Named, torch_groups


class SGDSpec(OptimizerRule, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sgd"):
    """v = momentum v + (gradient + decay x), x = x - rate v; with ``nesterov`` the step is gradient + momentum v.

    The decay is part of the gradient, as in the first definition of it, and acts on matrices only.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        positive("learning_rate", self.learning_rate)
        below_one("momentum", self.momentum)
        at_least_zero("weight_decay", self.weight_decay)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov", "is set with a momentum of 0", "set a momentum, or leave nesterov out")

    def parts(self, named: Named) -> list[torch.optim.Optimizer]:
        """Make torch's SGD, whose steps are taken for all tensors at once."""
        groups = torch_groups(named, self.groups, self.learning_rate, self.weight_decay)
        # Not the fused one: it knows no parameters without a momentum beside others with one, as surgery leaves them.
        return [
            torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.nesterov, foreach=True)
        ]
