"""Which rules there are, by the name that a person types."""

from collections.abc import Callable, Sequence

from torch import Tensor

from lamoid.fusion.rules.linear import linear

Rule = Callable[[Sequence[Tensor], Sequence[float], Tensor], Tensor]
"""Takes the same elements of every member (1-D, stored dtype), their weights and where the result goes; elementwise."""

RULES: dict[str, Rule] = {
    "linear": linear,
}
