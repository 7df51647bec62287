"""AdaMerging: factors a task and layer by which the model is surest of its answers (Yang et al., 2024,
arXiv 2310.02575)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def adamerge(
    base: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    entropies: Iterator[Callable[[Parameters], Tensor]],
    *,
    group_of: Callable[[str], str] = lambda name: name,
    start: float = 0.3,
    rate: float = 1e-2,
    steps: int = 100,
) -> dict[str, list[float]]:
    """Give, for each group of tensors, a factor a member: B + sum_i factor_i (M_i - B) has the least entropy.

    Each of ``entropies`` gives the mean entropy of the answers to a batch without labels, summed over tasks, for given
    parameters; ``steps`` of them are asked for, and Adam moves the factors from ``start``. For classifiers only: the
    entropy of next tokens is least for a model that always says the same.
    """
    groups = list(dict.fromkeys(group_of(name) for name in base))
    factors = torch.full((len(groups), len(members)), start, dtype=torch.float32, requires_grad=True)
    deltas = [{name: member[name].float() - tensor.float() for name, tensor in base.items()} for member in members]
    places = {name: groups.index(group_of(name)) for name in base}
    adam = torch.optim.Adam([factors], lr=rate)
    for _ in range(steps):
        mixed = {
            name: tensor.float() + sum(factors[places[name], i] * delta[name] for i, delta in enumerate(deltas))
            for name, tensor in base.items()
        }
        adam.zero_grad()
        next(entropies)(mixed).backward()
        adam.step()
    return {group: factors[index].tolist() for index, group in enumerate(groups)}
