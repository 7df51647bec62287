"""ExPO: go on beyond the trained model (Zheng et al., 2024, arXiv 2404.16792)."""

from collections.abc import Sequence

from lamoid.fusion.rules.mixing import mix_around_base
from lamoid.fusion.rules.numbers import LARGE, within
from lamoid.fusion.rules.rule import Combine, Options, Passes


class ExpoOptions(Options, frozen=True):
    """``alpha``: how far beyond the member, in lengths of its way from the base."""

    alpha: float = 0.1

    def __post_init__(self) -> None:
        within("alpha", self.alpha, -LARGE)


def expo(passes: Passes, weights: Sequence[float], options: ExpoOptions) -> Combine:
    """Give M + alpha (M - B)."""
    return mix_around_base([1.0 + options.alpha])
