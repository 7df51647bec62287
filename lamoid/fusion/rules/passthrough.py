"""The rule of one model: as it is, or scaled (mergekit's ``passthrough``)."""

from collections.abc import Sequence

from lamoid.fusion.rules.mixing import mix_members
from lamoid.fusion.rules.numbers import LARGE, within
from lamoid.fusion.rules.rule import Combine, Options, Passes


class PassthroughOptions(Options, frozen=True):
    """``scale``: what every number is multiplied with; none leaves all bits as they are."""

    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            within("scale", self.scale, -LARGE)


def passthrough(passes: Passes, weights: Sequence[float], options: PassthroughOptions) -> Combine:
    """Give scale * M_1."""
    return mix_members([1.0 if options.scale is None else options.scale])
