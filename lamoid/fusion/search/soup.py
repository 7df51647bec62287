"""The greedy soup (Wortsman et al., 2022, arXiv 2203.05482)."""

from collections.abc import Callable, Sequence


def greedy_soup(losses: Sequence[float], loss: Callable[[Sequence[float]], float]) -> list[float]:
    """Give the weights of a uniform average of some members: those that lowered the loss when they were added.

    Members are tried in the order of their own ``losses``, the best first, each in an even average with those kept so
    far; it stays if ``loss`` of these weights (they come to 1) is lower than before. The result is no worse by ``loss``
    than any weights tried; the first are the best member's alone, which need not be that member under every rule.
    """
    order = sorted(range(len(losses)), key=lambda index: losses[index])
    kept, best = order[:1], loss(_even(order[:1], len(losses)))
    for index in order[1:]:
        tried = loss(_even([*kept, index], len(losses)))
        if tried < best:
            kept, best = [*kept, index], tried
    return _even(kept, len(losses))


def _even(kept: Sequence[int], members: int) -> list[float]:
    return [1.0 / len(kept) if index in kept else 0.0 for index in range(members)]
