"""Optimisers: which rule changes which parameter is read off the parameter's path."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import positive
from lamoid.assembly.surgery import Change
from lamoid.errors import InputError

Group = Literal["block_matrices", "tables", "vectors"]


def _at_least_zero(field: str, value: float) -> None:
    if not math.isfinite(value) or value < 0.0:
        raise InputError(field, f"is {value}, must be finite and at least 0", f"set {field} to 0 or more")


def _below_one(field: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise InputError(field, f"is {value}, must be at least 0 and below 1", f"set {field} within these limits")


class AdamWSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="adamw"):
    """AdamW (Loshchilov and Hutter, 2019); the decay acts on matrices only."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        positive("learning_rate", self.learning_rate)
        positive("epsilon", self.epsilon)
        _at_least_zero("weight_decay", self.weight_decay)
        for beta in self.betas:
            _below_one("betas", beta)

    def build(self, model: nn.Module) -> "Optimizer":
        """Make the optimiser of all parameters."""
        return Optimizer(self, [_adamw(self, list(model.named_parameters()))], [self.learning_rate])


class MuonSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="muon"):
    """Muon (Jordan et al., 2024) for the matrices of the blocks; ``rest`` for tables, heads, norms and biases.

    ``scale`` says how the step grows with a matrix's shape: ``"spectral"`` is sqrt(max(1, rows / columns)), as first
    published; ``"adamw"`` is 0.2 sqrt(max(rows, columns)), for learning rates tuned for AdamW (Liu et al., 2025).
    """

    learning_rate: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.1
    scale: Literal["spectral", "adamw"] = "spectral"
    rest: AdamWSpec = AdamWSpec()

    def __post_init__(self) -> None:
        positive("learning_rate", self.learning_rate)
        _below_one("momentum", self.momentum)
        _at_least_zero("weight_decay", self.weight_decay)

    def build(self, model: nn.Module) -> "Optimizer":
        """Make the two optimisers that share the parameters out between them."""
        named = list(model.named_parameters())
        matrices = [(path, parameter) for path, parameter in named if group_of(path, parameter) == "block_matrices"]
        rest = [(path, parameter) for path, parameter in named if group_of(path, parameter) != "block_matrices"]
        if not matrices:
            return Optimizer(self, [_adamw(self.rest, rest)], [self.rest.learning_rate])
        muon = torch.optim.Muon(
            matrices,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            adjust_lr_fn={"spectral": "original", "adamw": "match_rms_adamw"}[self.scale],
        )
        return Optimizer(self, [muon, _adamw(self.rest, rest)], [self.learning_rate, self.rest.learning_rate])


OptimizerSpec = AdamWSpec | MuonSpec


def group_of(path: str, parameter: Tensor) -> Group:
    """Say which rule a parameter falls under: the matrices of the blocks, the other matrices, or the vectors.

    The tables of a stack among the blocks, and of positions, are tables; a group's models stand before ``blocks``.
    """
    if parameter.ndim < 2:
        return "vectors"
    pieces = path.split(".")
    is_inside = "blocks" in pieces and not {"heads", "embedding", "position"} & set(pieces)
    return "block_matrices" if is_inside and parameter.ndim == 2 else "tables"


class Optimizer:
    """One or two of torch's optimisers, each with its peak learning rate, taken as one; ``spec`` has the rules."""

    def __init__(self, spec: "OptimizerSpec", parts: list[torch.optim.Optimizer], learning_rates: list[float]) -> None:
        self.spec = spec
        self.parts = parts
        self.learning_rates = learning_rates

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """Give every parameter once."""
        return (parameter for group in self._groups() for parameter in group["params"])

    def set_share(self, share: float) -> None:
        """Set each part's learning rate to ``share`` of its peak."""
        for part, rate in zip(self.parts, self.learning_rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * share

    def step(self) -> None:
        """Change the parameters by their gradients, then drop the gradients."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def apply(self, change: Change, model: nn.Module) -> None:
        """Follow ``model`` after surgery: its parameters are grouped anew by the spec's rules.

        What was kept keeps its state, the very tensors; what began as a copy has a copy of the state; what was drawn
        starts afresh, and the state of what was removed is gone. A parameter that has come under another of the
        parts starts afresh too.
        """
        old = {
            path: (part, part.state[parameter]) for path, parameter, part in self._named() if parameter in part.state
        }
        fresh = self.spec.build(model)
        came_from = {**{new: before for before, new in change.kept.items()}, **change.copied}
        kept = set(change.kept.values())
        for path, parameter, part in fresh._named():
            before, state = old.get(came_from.get(path, ""), (None, {}))
            if type(before) is type(part) and state:
                part.state[parameter] = (
                    state if path in kept else {entry: _copy(value) for entry, value in state.items()}
                )
        self.parts, self.learning_rates = fresh.parts, fresh.learning_rates

    def tensors(self) -> dict[str, Tensor]:
        """Give the state as tensors named ``<entry>/<parameter's path>``."""
        named = {}
        for path, parameter, part in self._named():
            for entry, value in part.state[parameter].items():
                named[f"{entry}/{path}"] = torch.as_tensor(value)
        return named

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave; parameters that are not named there start afresh."""
        paths = {path: (parameter, part) for path, parameter, part in self._named()}
        for name, value in tensors.items():
            entry, _, path = name.partition("/")
            if path not in paths:
                raise InputError(name, "belongs to no parameter of this model", "resume with the recipe of the run")
            parameter, part = paths[path]
            device = parameter.device if value.ndim or part.defaults.get("fused") else value.device
            part.state[parameter][entry] = value.to(device).clone()

    def _groups(self) -> Iterator[dict]:
        return (group for part in self.parts for group in part.param_groups)

    def _named(self) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
        for part in self.parts:
            for group in part.param_groups:
                for path, parameter in zip(group["param_names"], group["params"], strict=True):
                    yield path, parameter, part


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _adamw(spec: AdamWSpec, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.AdamW:
    """Make an AdamW of two groups, with and without decay; the fused kernel runs on the CPU and on CUDA."""
    groups: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for path, parameter in named:
        groups[group_of(path, parameter) != "vectors"].append((path, parameter))
    listed = [
        {"params": members, "weight_decay": spec.weight_decay if decays else 0.0}
        for decays, members in groups.items()
        if members
    ]
    devices = {parameter.device.type for members in groups.values() for _, parameter in members}
    fused = devices <= {"cpu", "cuda"}
    return torch.optim.AdamW(listed, lr=spec.learning_rate, betas=spec.betas, eps=spec.epsilon, fused=fused)
