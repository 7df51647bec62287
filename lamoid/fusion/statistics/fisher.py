"""The diagonal of the empirical Fisher information (Matena and Raffel, 2022, arXiv 2111.09832)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lamoid.errors import InputError


def fisher_information(model: nn.Module, losses: Iterable[Tensor]) -> dict[str, Tensor]:
    """Give, for each trainable parameter by name, the mean over examples of its squared gradient, in float32.

    ``losses`` gives one example's loss after the other, each a scalar with its graph; the gradients of one are dropped
    before the next is asked for. A parameter that no loss reaches has zeros. Raise ``InputError`` if there is no
    example, or one of its gradients is not finite.
    """
    parameters = dict(model.named_parameters())
    found = {name: torch.zeros(p.shape, dtype=torch.float32, device=p.device) for name, p in parameters.items()}
    count = 0
    for loss in losses:
        model.zero_grad(set_to_none=True)
        loss.backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                found[name].addcmul_(parameter.grad.float(), parameter.grad.float())
        count += 1
    model.zero_grad(set_to_none=True)
    if not count:
        raise InputError("examples", "are none", "give text that the model can read")
    for name, total in found.items():
        if not bool(torch.isfinite(total.div_(count)).all()):
            raise InputError(f"parameter {name}", "has a gradient that is not finite", "use a model of a wider dtype")
    return found
