"""Draw a fresh model's weights (Radford et al., 2019): the same seed gives the same bits on every device."""

from collections.abc import Collection

import torch
from torch import nn

from lamoid.assembly.block import Block
from lamoid.assembly.norm import UnitRMSNorm

LAST_OF_RESIDUAL = ("output.weight", "down.weight")


@torch.no_grad()
def initialise(model: nn.Module, seed: int, *, deviation: float = 0.02, only: Collection[str] | None = None) -> None:
    """Set norms to one, biases to zero and matrices to normal numbers of ``deviation``.

    Matrices that end a residual branch are scaled by 1 / sqrt(2 x blocks), so that the stream's variance does not grow
    with depth. Numbers are drawn in float32 on the CPU, in the order of the names. ``only`` names the parameters to
    set, where others are to stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = (2 * max(1, sum(isinstance(module, Block) for module in model.modules()))) ** -0.5
    offsets = {
        f"{name}.weight" if name else "weight" for name, part in model.named_modules() if isinstance(part, UnitRMSNorm)
    }
    for name, parameter in model.named_parameters():
        if only is not None and name not in only:
            continue
        if parameter.ndim == 1:
            parameter.fill_(0.0 if name in offsets or name.split(".")[-1].startswith("bias") else 1.0)
            continue
        scale = deviation * (depth if name.endswith(LAST_OF_RESIDUAL) else 1.0)
        parameter.copy_(torch.empty(parameter.shape).normal_(0.0, scale, generator=generator))
