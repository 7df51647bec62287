"""Draw a fresh model's weights (Radford et al., 2019): the same seed gives the same bits on every device."""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Generator, Tensor, nn

from lamoid.assembly.adapted import adapted_parts
from lamoid.assembly.adapter import LowRank
from lamoid.assembly.block import Block
from lamoid.assembly.convolution import Convolution
from lamoid.assembly.norm import UnitRMSNorm
from lamoid.assembly.paths import join
from lamoid.assembly.recurrence import Cell

LAST_OF_RESIDUAL = ("output.weight", "down.weight")
Draw = Callable[[Tensor, Generator], None]


@torch.no_grad()
def initialise(model: nn.Module, seed: int, *, deviation: float = 0.02, only: Collection[str] | None = None) -> None:
    """Set norms to one, biases to zero and matrices to normal numbers of ``deviation``.

    Matrices that end a residual branch are scaled by 1 / sqrt(2 x blocks), so that the stream's variance does not grow
    with depth. Recurrences and filters are drawn by rules of their own (``_draws``). Numbers are drawn in float32 on
    the CPU, in the order of the names. ``only`` names the parameters to set, where others are to stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = (2 * max(1, sum(isinstance(module, Block) for module in model.modules()))) ** -0.5
    draws = {join(name, own): draw for name, part in model.named_modules() for own, draw in _draws(part)}
    for name, parameter in model.named_parameters():
        if only is not None and name not in only:
            continue
        if name in draws:
            drawn = torch.empty(parameter.shape)
            draws[name](drawn, generator)
            parameter.copy_(drawn)
            continue
        if parameter.ndim == 1:
            parameter.fill_(0.0 if name.split(".")[-1].startswith("bias") else 1.0)
            continue
        scale = deviation * (depth if name.endswith(LAST_OF_RESIDUAL) else 1.0)
        parameter.copy_(torch.empty(parameter.shape).normal_(0.0, scale, generator=generator))
    for part in adapted_parts(model):
        for number, low in enumerate(part.adapters.parts):
            if only is None or f"{part.path}.adapters.{number}.magnitude" in only:
                low.start(part.weight)


def _draws(part: nn.Module) -> Iterator[tuple[str, Draw]]:
    """Give the rules of parameters that are not drawn as all others."""
    if isinstance(part, UnitRMSNorm):
        yield "weight", _zero
    elif isinstance(part, Convolution):
        yield "taps", _filters
    elif isinstance(part, LowRank):
        yield "narrow", _narrow
        yield "widen", _zero
    elif isinstance(part, Cell):
        yield "input.weight", _gates
        yield "recurrent.weight", _turns
        if part.has_forget_gate:
            yield "input.bias", _remember


def _zero(drawn: Tensor, generator: Generator) -> None:
    drawn.zero_()


def _narrow(drawn: Tensor, generator: Generator) -> None:
    """Uniform within 1 / sqrt(inputs), as He et al. (2015) with the slope sqrt(5); what widens it is zero."""
    drawn.uniform_(-(drawn.shape[1] ** -0.5), drawn.shape[1] ** -0.5, generator=generator)


def _filters(drawn: Tensor, generator: Generator) -> None:
    """A filter's answer has its input's variance (LeCun et al., 1998)."""
    drawn.normal_(0.0, drawn.shape[1] ** -0.5, generator=generator)


def _gates(drawn: Tensor, generator: Generator) -> None:
    """A gate's input has the stream's variance, whatever its width."""
    drawn.normal_(0.0, drawn.shape[1] ** -0.5, generator=generator)


def _turns(drawn: Tensor, generator: Generator) -> None:
    """The state passes through orthogonal maps, one a gate, and neither grows nor fades (Saxe et al., 2014)."""
    for gate in drawn.split(drawn.shape[1]):
        nn.init.orthogonal_(gate, generator=generator)


def _remember(drawn: Tensor, generator: Generator) -> None:
    """An LSTM begins by remembering: the forget gate, second of four, has the bias 1 (Jozefowicz et al., 2015)."""
    drawn.zero_()
    drawn.view(4, -1)[1] = 1.0
