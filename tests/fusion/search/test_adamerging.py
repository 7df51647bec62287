"""AdaMerging on two tasks of which each member knows one: the surest mixture is near the best one."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lamoid.fusion.search.adamerging import Parameters, adamerge

WIDTH = 8


def test_the_surest_factors_answer_better_than_those_begun_with() -> None:
    """Two tasks in different halves of the input, each with its own head on one trunk."""
    base = {"layers.0.weight": 0.1 * torch.randn(WIDTH, 2 * WIDTH)}
    truths = [torch.randn(WIDTH), torch.randn(WIDTH)]
    heads = [torch.randn(2, WIDTH), torch.randn(2, WIDTH)]
    rows = [torch.zeros(200, 2 * WIDTH) for _ in truths]
    for task, part in enumerate(rows):
        part[:, task * WIDTH : (task + 1) * WIDTH] = torch.randn(200, WIDTH)
    labels = [(part[:, t * WIDTH : (t + 1) * WIDTH] @ truths[t] > 0).long() for t, part in enumerate(rows)]

    def logits(parameters: Parameters, task: int) -> Tensor:
        return torch.tanh(rows[task] @ parameters["layers.0.weight"].T) @ heads[task].T

    members = []
    for task in range(2):
        weight = base["layers.0.weight"].clone().requires_grad_()
        adam = torch.optim.Adam([weight], lr=0.05)
        for _ in range(150):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(logits({"layers.0.weight": weight}, task), labels[task]).backward()
            adam.step()
        members.append({"layers.0.weight": weight.detach()})

    def entropy(parameters: Parameters) -> Tensor:
        shares = [logits(parameters, task).log_softmax(-1) for task in range(2)]
        return sum((-(share.exp() * share).sum(-1).mean() for share in shares), torch.zeros(()))

    def forever() -> Iterator:
        while True:
            yield entropy

    def mixed(factors: list[float]) -> Parameters:
        deltas = [member["layers.0.weight"] - base["layers.0.weight"] for member in members]
        return {"layers.0.weight": base["layers.0.weight"] + sum(f * d for f, d in zip(factors, deltas, strict=True))}

    def wrong(factors: list[float]) -> float:
        found = mixed(factors)
        return sum((logits(found, task).argmax(-1) != labels[task]).float().mean().item() for task in range(2))

    factors = adamerge(base, members, forever(), rate=0.05, steps=60)["layers.0.weight"]
    assert float(entropy(mixed(factors))) < float(entropy(mixed([0.3, 0.3])))
    assert wrong(factors) <= wrong([0.3, 0.3])
    assert min(factors) > 0.3  # each member knows something that the other does not
