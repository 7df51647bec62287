"""The rule that the whole house is named for: a measured loss is turned into a weight."""

import math
from collections.abc import Sequence


def softmax_weights(losses: Sequence[float], tau: float = 1.0) -> list[float]:
    """Give w_i = exp(-L_i / tau) / sum_j exp(-L_j / tau), in the order of ``losses``.

    A small ``tau`` favours the best, a large one comes near to equal weights. A loss of +inf gives weight 0. The sum is
    exact, so that the order of the losses cannot change a bit. Raises ``ValueError`` for no loss, a NaN, losses that
    are all infinite, and a ``tau`` that is not finite and positive.
    """
    if not (math.isfinite(tau) and tau > 0.0):
        raise ValueError(f"tau is {tau}, must be finite and greater than 0")
    best = min(losses, default=math.nan)
    if any(math.isnan(loss) for loss in losses) or not math.isfinite(best):
        raise ValueError(f"losses are {list(losses)}, must be numbers, the smallest of them finite")
    powers = [math.exp(min(0.0, (best - loss) / tau)) for loss in losses]
    total = math.fsum(powers)
    return [power / total for power in powers]
