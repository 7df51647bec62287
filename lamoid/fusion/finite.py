"""Whether every number is finite, told from the bits, on one thread and with little room."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.memory import BLOCK
from lamoid.weights.read import Tensors

EXPONENTS = {
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float16: (torch.int16, 0x7C00),
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}


def is_finite(numbers: Tensor) -> bool:
    """Say whether a 1-D tensor of a floating dtype holds neither NaN nor infinity: no exponent is all ones."""
    if numbers.dtype not in EXPONENTS:
        return bool(torch.isfinite(numbers.float()).all())
    if not len(numbers):
        return True
    whole, mask = EXPONENTS[numbers.dtype]
    return int((numbers.view(whole).numpy() & mask).max()) < mask


def check_finite(models: Tensor, names: Sequence[str], tensor: str) -> None:
    """Raise an ``InputError`` naming the first model, one a row, that holds NaN or infinity.

    Their sum holds it too: only where it is not finite is every number looked at.
    """
    if math.isfinite(models.sum()):
        return
    for name, numbers in zip(names, models.unbind(), strict=True):
        if not bool(torch.isfinite(numbers).all()):
            raise not_finite(name, tensor)


def fits(numbers: Tensor, dtype: torch.dtype) -> bool:
    """Say whether numbers stay finite when they are cast: the sum of their squares says it first, and fast."""
    flat, limit = numbers.reshape(-1), torch.finfo(dtype).max
    if float(torch.dot(flat, flat)) <= min(limit * limit, torch.finfo(flat.dtype).max):
        return True
    return bool(torch.isfinite(flat.to(dtype)).all())


def not_finite(member: str, tensor: str) -> InputError:
    """Give the error that names a member and its tensor with a NaN or an infinity."""
    cure = "train or fetch this member anew, or leave it out"
    return InputError(f"{member}: tensor {tensor}", "holds NaN or infinity", cure)


def check_information(statistics: Sequence[Tensor], members: Sequence[str], tensor: str) -> None:
    """Raise an ``InputError`` naming the first member whose Fisher information is NaN, infinite or less than 0."""
    for member, numbers in zip(members, statistics, strict=False):
        if numbers.numel() and not (math.isfinite(numbers.sum()) and bool(numbers.min() >= 0.0)):
            raise not_finite_statistic(member, tensor)


def not_finite_statistic(member: str, tensor: str) -> InputError:
    """Give the error that names a member and the tensor of which its statistic cannot be."""
    problem = "its statistic holds NaN, an infinity, or less than nothing where there can only be more"
    return InputError(f"{member}: tensor {tensor}", problem, "measure it anew with lamoid statistics")


def find_not_finite(tensors: Tensors) -> str | None:
    """Name the first tensor that holds NaN or infinity."""
    for name in tensors:
        if tensors[name].dtype.is_floating_point and any(not is_finite(block) for block in _blocks(tensors, name)):
            return name
    return None


def _blocks(tensors: Tensors, name: str) -> Iterator[Tensor]:
    info = tensors[name]
    buffer = torch.empty(min(BLOCK, info.elements), dtype=info.dtype)
    for first in range(0, info.elements, BLOCK):
        block = buffer[: min(BLOCK, info.elements - first)]
        tensors.read_into(name, first, block)
        yield block
