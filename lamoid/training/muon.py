"""Muon (Jordan et al., 2024): steps that are orthogonal matrices, all matrices of one shape worked out at once."""
# pyright: reportPrivateImportUsage=false
# Torch has no other names for its functions that take lists of tensors.

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.bounds import at_least_zero, below_one, positive, whole
from lamoid.errors import InputError
from lamoid.training.adamw import AdamWSpec
from lamoid.training.optimizer import OptimizerRule
from lamoid.training.parameter_groups import Named, group_of, torch_groups

Scale = Literal["spectral", "adamw"]
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MOST_AT_ONCE = 1 << 26
"""So many numbers of one shape are worked on together."""
IN_CACHE = 1 << 17
"""The same on a processor, where larger stacks leave its cache and were slower than one matrix after the other."""


class MuonSpec(OptimizerRule, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="muon"):
    """Muon for the matrices of the blocks; ``rest`` for tables, heads, norms and biases.

    ``scale`` says how the step grows with a matrix's shape: ``"spectral"`` is sqrt(max(1, rows / columns)), as first
    published; ``"adamw"`` is 0.2 sqrt(max(rows, columns)), for learning rates tuned for AdamW (Liu et al., 2025).
    A parameter that holds several matrices, the gates of a recurrence or stacked experts, is taken apart into them.
    ``iterations`` is the number of Newton-Schulz steps.
    """

    learning_rate: float = 0.02
    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.1
    scale: Scale = "spectral"
    iterations: int = 5
    rest: AdamWSpec = AdamWSpec()

    def __post_init__(self) -> None:
        positive("learning_rate", self.learning_rate)
        below_one("momentum", self.momentum)
        at_least_zero("weight_decay", self.weight_decay)
        whole("iterations", self.iterations, 1, 99)
        if self.rest.groups:
            raise InputError("rest.groups", "is set", "write groups of all parameters in optimizer.groups")

    def parts(self, named: Named) -> list[torch.optim.Optimizer]:
        """Make the two optimisers that share the parameters out between them."""
        matrices = [pair for pair in named if group_of(*pair) == "block_matrices"]
        rest = [pair for pair in named if group_of(*pair) != "block_matrices"]
        others = msgspec.structs.replace(self.rest, groups=self.groups).parts(rest) if rest else []
        if not matrices:
            return others
        groups = torch_groups(matrices, self.groups, self.learning_rate, self.weight_decay)
        return [Muon(self, groups, count_matrices(matrices)), *others]


class Muon(torch.optim.Optimizer):
    """Momentum for all tensors at once, then Newton-Schulz steps for all matrices of a shape at once, in bfloat16.

    ``counts`` says of a parameter's name how many matrices stand one below the other in it, 1 if it does not.
    """

    def __init__(self, spec: MuonSpec, groups: list[dict[str, Any]], counts: dict[str, int]) -> None:
        super().__init__(groups, {"lr": spec.learning_rate, "weight_decay": spec.weight_decay})
        self.spec, self.counts = spec, counts

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            matrices: list[tuple[Tensor, ...]] = []
            for name, parameter in zip(group["param_names"], group["params"], strict=True):
                if parameter.grad is not None:
                    matrices += self._matrices(name, parameter, parameter.grad)
            if matrices and group["weight_decay"]:
                torch._foreach_mul_([target for target, _, _ in matrices], 1.0 - group["lr"] * group["weight_decay"])
            for stack in _stacks(matrices):
                self._change(stack, group["lr"])

    def _change(self, stack: Sequence[tuple[Tensor, ...]], rate: float) -> None:
        """Take gradients of one shape, or its transpose, into their momenta, and step."""
        targets, gradients, momenta = (list(part) for part in zip(*stack, strict=True))
        torch._foreach_lerp_(momenta, gradients, 1.0 - self.spec.momentum)
        steps = torch._foreach_lerp(gradients, momenta, self.spec.momentum) if self.spec.nesterov else momenta
        wide = [(step.T if step.shape[0] > step.shape[1] else step).bfloat16() for step in steps]
        together = wide[0] if len(wide) == 1 else torch.stack(wide)
        directions = orthogonalised(together, self.spec.iterations).view(len(wide), *wide[0].shape)
        for target, direction in zip(targets, directions, strict=True):
            scale = step_scale(self.spec.scale, *target.shape)
            target.add_(direction if target.shape == direction.shape else direction.T, alpha=-rate * scale)

    def _matrices(self, name: str, parameter: Tensor, gradient: Tensor) -> list[tuple[Tensor, ...]]:
        """Give the matrices of a parameter with their gradients and momenta, as views."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        whole = (parameter.detach(), gradient, state["momentum_buffer"])
        if parameter.ndim == 3:
            return list(zip(*(tensor.unbind() for tensor in whole), strict=True))
        return list(zip(*(tensor.chunk(self.counts.get(name, 1)) for tensor in whole), strict=True))


def count_matrices(named: Named) -> dict[str, int]:
    """Say which parameters are several matrices one below the other, and of how many: the gates of a recurrent cell.

    A cell's ``recurrent`` map reads a state of ``hidden`` numbers and gives so many for each gate, as its ``input``
    map does.
    """
    shapes = {path: parameter.shape for path, parameter in named}
    counts = {}
    for path, shape in shapes.items():
        owner, _, last = path.rpartition(".recurrent.weight")
        if owner and not last and owner.split(".")[-2:-1] == ["cells"]:
            gates = shape[0] // shape[1]
            counts[path] = gates
            counts[f"{owner}.input.weight"] = gates
    return counts


def step_scale(scale: Scale, rows: int, columns: int) -> float:
    """Give what a matrix's step of learning rate 1 is multiplied by."""
    return math.sqrt(max(1.0, rows / columns)) if scale == "spectral" else 0.2 * math.sqrt(max(rows, columns))


def orthogonalised(matrices: Tensor, iterations: int) -> Tensor:
    """Give (N, rows, columns) or one matrix, rows at most columns, with singular values near 1, in bfloat16.

    Newton-Schulz steps of degree five with the coefficients of Jordan et al., 2024, which end between about 0.7 and 1.2
    after five.
    """
    a, b, c = COEFFICIENTS
    add = torch.addmm if matrices.ndim == 2 else torch.baddbmm
    x = matrices.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = add(x, add(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _stacks(matrices: Sequence[tuple[Tensor, ...]]) -> Iterator[list[tuple[Tensor, ...]]]:
    """Give the matrices of one shape, or its transpose, together, so many as are fast at once."""
    shapes: dict[tuple[int, ...], list[tuple[Tensor, ...]]] = {}
    for matrix in matrices:
        shapes.setdefault(tuple(sorted(matrix[0].shape)), []).append(matrix)
    for shape, listed in shapes.items():
        numbers = IN_CACHE if listed[0][0].device.type == "cpu" else MOST_AT_ONCE
        most = max(1, numbers // math.prod(shape))
        for begin in range(0, len(listed), most):
            yield listed[begin : begin + most]
