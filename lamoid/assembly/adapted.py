"""The adapted parts of a model, found where they stand."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from lamoid.assembly.adapter import Adapters
from lamoid.assembly.heads import NextToken
from lamoid.assembly.linear import Adapted

TABLE = "embedding.tokens"


@dataclass(frozen=True)
class AdaptedPart:
    """A linear map with adapters: ``path`` is the module's; ``weight`` (outputs, inputs) its own or the token table."""

    path: str
    adapters: Adapters
    weight: Tensor


def adapted_parts(root: nn.Module) -> Iterator[AdaptedPart]:
    """Give all adapted maps of a model, or of several in one module, in the order in which they stand."""
    for path, module in root.named_modules():
        if isinstance(module, Adapted):
            yield AdaptedPart(path, module.adapters, module.weight)
        elif isinstance(module, NextToken) and module.adapters is not None:
            above = path.rpartition("heads.")[0]
            table = root.get_submodule(f"{above}{TABLE}")
            yield AdaptedPart(path, module.adapters, cast("Tensor", table.weight))
