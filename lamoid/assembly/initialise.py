"""Draw a fresh model's weights (Radford et al., 2019): the same seed gives the same bits on every device."""

import torch

from lamoid.assembly.model import LanguageModel

LAST_OF_RESIDUAL = ("output.weight", "down.weight")


@torch.no_grad()
def initialise(model: LanguageModel, seed: int, *, deviation: float = 0.02) -> None:
    """Set norms to one, biases to zero and matrices to normal numbers of ``deviation``.

    Matrices that end a residual branch are scaled by 1 / sqrt(2 x blocks), so that the stream's variance does not grow
    with depth. Numbers are drawn in float32 on the CPU, in the order of the names.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = (2 * len(model.blocks)) ** -0.5
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        scale = deviation * (depth if name.endswith(LAST_OF_RESIDUAL) else 1.0)
        parameter.copy_(torch.empty(parameter.shape).normal_(0.0, scale, generator=generator))
