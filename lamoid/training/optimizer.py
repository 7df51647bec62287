"""The optimiser of a run: torch's optimisers taken as one, with a state that is saved and that follows surgery."""

from collections.abc import Iterator
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.surgery import Change
from lamoid.errors import InputError
from lamoid.training.parameter_groups import GroupSpec, Named, check_groups, trained_parameters


class OptimizerRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all optimisers say: ``groups`` of parameters that are trained otherwise than the rest."""

    groups: tuple[GroupSpec, ...] = ()

    def build(self, named: Named) -> "Optimizer":
        """Make the optimiser of these parameters; ``InputError`` names a group's path that none of them stands at."""
        check_groups(self.groups, [path for path, _ in named])
        return Optimizer(self, named)

    def parts(self, named: Named) -> list[torch.optim.Optimizer]:
        """Make torch's optimisers that share the parameters out between them."""
        raise NotImplementedError


class Optimizer:
    """A few of torch's optimisers, taken as one; ``spec`` has the rules, each group of parameters its peak rate."""

    def __init__(self, spec: OptimizerRule, named: Named) -> None:
        if not named:
            raise InputError("optimizer", "has no parameter to train: all are frozen", "leave some of them free")
        self.spec = spec
        self.parts = spec.parts(named)

    @property
    def learning_rates(self) -> list[float]:
        """Give the peak of every group of parameters, first that of the most general rule."""
        return [group["peak"] for group in self._groups()]

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """Give every parameter once."""
        return (parameter for group in self._groups() for parameter in group["params"])

    def set_share(self, share: float) -> None:
        """Set each group's learning rate to ``share`` of its peak."""
        for group in self._groups():
            group["lr"] = group["peak"] * share

    def step(self) -> None:
        """Change the parameters by their gradients, then drop the gradients."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def apply(self, change: Change, model: nn.Module) -> None:
        """Follow ``model`` after surgery: its parameters are grouped anew by the spec's rules.

        What was kept keeps its state, the very tensors; what began as a copy has a copy of the state; what was drawn
        starts afresh, and the state of what was removed is gone. A parameter that has come under another of the
        parts starts afresh too. A group whose parameters are all gone is left out.
        """
        old = {
            path: (part, part.state[parameter]) for path, parameter, part in self._named() if parameter in part.state
        }
        fresh = Optimizer(self.spec, trained_parameters(model))
        came_from = {**{new: before for before, new in change.kept.items()}, **change.copied}
        kept = set(change.kept.values())
        for path, parameter, part in fresh._named():
            before, state = old.get(came_from.get(path, ""), (None, {}))
            if type(before) is type(part) and state:
                part.state[parameter] = (
                    state if path in kept else {entry: _copy(value) for entry, value in state.items()}
                )
        self.parts = fresh.parts

    def tensors(self) -> dict[str, Tensor]:
        """Give the state as tensors named ``<entry>/<parameter's path>``."""
        named = {}
        for path, parameter, part in self._named():
            for entry, value in part.state.get(parameter, {}).items():
                if value is not None:
                    named[f"{entry}/{path}"] = torch.as_tensor(value)
        return named

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave; parameters that are not named there start afresh."""
        paths = {path: (parameter, part) for path, parameter, part in self._named()}
        for part in self.parts:
            part.state.clear()
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
