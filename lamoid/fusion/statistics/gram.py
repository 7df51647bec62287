"""The inner products of what linear maps read (Jin et al., 2023, arXiv 2212.09849)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def gathering_grams(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Give a dict that holds, at the end of the block, X^T X / N of every linear map that was asked, by its weight.

    X are the N rows (tokens) that the map read in the block, each of (inputs,); the products are float32, (inputs,
    inputs). Everything that is read counts, so batches must not be padded. Maps that read the same share a tensor.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    last: list[tuple[Tensor, str]] = []

    def note(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs = given[0]
        if last and last[0][0] is inputs:  # such as queries, keys and values
            shared.setdefault(last[0][1], set()).add(name)
            return
        rows = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        total = sums.setdefault(name, torch.zeros(rows.shape[-1], rows.shape[-1], device=rows.device))
        total.addmm_(rows.T, rows)
        counts[name] = counts.get(name, 0) + len(rows)
        last[:] = [(inputs, name)]

    shared: dict[str, set[str]] = {}
    handles = [
        module.register_forward_pre_hook(partial(note, f"{path}.weight"))
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    found: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            yield found
    finally:
        for handle in handles:
            handle.remove()
    for name, total in sums.items():
        total.div_(max(1, counts[name]))
        for each in (name, *shared.get(name, ())):
            found[each] = total
