"""Adafactor (Shazeer and Stern, 2018): second moments kept as a row and a column, steps relative to the weights."""
# pyright: reportPrivateImportUsage=false
# Torch has no other names for its functions that take lists of tensors.

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lamoid.assembly.bounds import at_least_zero, positive
from lamoid.errors import InputError
from lamoid.training.optimizer import OptimizerRule
from lamoid.training.parameter_groups import Named, torch_groups


class AdafactorSpec(OptimizerRule, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="adafactor"):
    """Algorithms 4 and 5 of the paper without their own schedule of the rate, which is the recipe's.

    With ``relative`` a step is ``learning_rate`` times the root mean square of the parameter, or times ``least`` where
    that is larger. A step whose root mean square is above ``clip`` is shrunk to it. The second moments decay by
    1 - step^-``forgetting``. The weight decay acts on matrices only, at the rate of their steps.
    """

    learning_rate: float = 0.01
    relative: bool = True
    least: float = 1e-3
    clip: float = 1.0
    forgetting: float = 0.8
    epsilon: float = 1e-30
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for field in ("learning_rate", "least", "clip", "epsilon"):
            positive(field, getattr(self, field))
        at_least_zero("weight_decay", self.weight_decay)
        if not 0.0 < self.forgetting <= 1.0:
            raise InputError("forgetting", f"is {self.forgetting}, must be above 0 and at most 1", "0.8 is usual")

    def parts(self, named: Named) -> list[torch.optim.Optimizer]:
        """Make the one optimiser."""
        return [Adafactor(self, torch_groups(named, self.groups, self.learning_rate, self.weight_decay))]


class Adafactor(torch.optim.Optimizer):
    """All sizes stay on the device of the parameters: a step waits for nothing, which torch's own does for each."""

    def __init__(self, spec: AdafactorSpec, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": spec.learning_rate, "weight_decay": spec.weight_decay})
        self.spec = spec

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            updates = [self._direction(parameter, parameter.grad) for parameter in parameters]
            sizes = [update.numel() ** 0.5 * self.spec.clip for update in updates]
            shrinks = torch._foreach_norm(updates)
            torch._foreach_div_(shrinks, sizes)
            torch._foreach_clamp_min_(shrinks, 1.0)
            rates = self._rates(parameters, group["lr"])
            if group["weight_decay"]:
                kept = torch._foreach_mul(rates, -group["weight_decay"])
                torch._foreach_add_(kept, 1.0)
                torch._foreach_mul_(parameters, kept)
            torch._foreach_div_(rates, shrinks)
            torch._foreach_addcmul_(parameters, updates, rates, value=-1.0)

    def _rates(self, parameters: list[Tensor], rate: float) -> list[Tensor]:
        """Give the rate of each parameter as a scalar on its device."""
        if not self.spec.relative:
            return [parameter.new_full((), rate) for parameter in parameters]
        rates = list(torch._foreach_norm(parameters))
        torch._foreach_div_(rates, [parameter.numel() ** 0.5 for parameter in parameters])
        torch._foreach_clamp_min_(rates, self.spec.least)
        torch._foreach_mul_(rates, rate)
        return rates

    def _direction(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Take the gradient into the second moments; give it divided by their roots."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64)  # on the host, where it is read
            if gradient.ndim > 1:
                state["rows"] = gradient.new_zeros(gradient.shape[:-1])
                state["columns"] = gradient.new_zeros((*gradient.shape[:-2], gradient.shape[-1]))
            else:
                state["moment"] = torch.zeros_like(gradient)
        state["step"] += 1.0
        new = state["step"].item() ** -self.spec.forgetting
        if gradient.ndim < 2:
            return state["moment"].lerp_(gradient.square().add_(self.spec.epsilon), new).rsqrt().mul_(gradient)
        rows = state["rows"].lerp_(self._mean_square(gradient, -1), new)
        columns = state["columns"].lerp_(self._mean_square(gradient, -2), new)
        scaled = (rows / rows.mean(-1, keepdim=True)).rsqrt_()
        return (gradient * scaled.unsqueeze(-1)).mul_(columns.rsqrt().unsqueeze(-2))

    def _mean_square(self, gradient: Tensor, dim: int) -> Tensor:
        """Give the mean of the squares over a dimension, and epsilon more, without a tensor of all squares."""
        return torch.linalg.vector_norm(gradient, dim=dim).square_().div_(gradient.shape[dim]).add_(self.spec.epsilon)
