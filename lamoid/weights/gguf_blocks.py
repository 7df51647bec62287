"""Numbers as the blocks of q8_0 and back: 32 whole numbers from -127 to 127 and one scale in float16.

Source: the format q8_0 of ggml, https://github.com/ggml-org/ggml (its reference quantisation).
"""

import torch
from torch import Tensor

from lamoid.weights.gguf_kinds import Q8_0

HIGHEST = 127


def pack_blocks(numbers: Tensor) -> Tensor:
    """Give the bytes (N / 32, 34) of N float32 numbers, N a multiple of 32.

    The scale is the block's largest magnitude / 127; it divides in float32 and is then rounded to float16. Halves are
    rounded away from zero. A block whose scale float16 cannot hold gets an infinite one: the caller checks.
    """
    blocks = numbers.reshape(-1, Q8_0.block)
    scale = blocks.abs().amax(dim=1, keepdim=True) / HIGHEST
    inverse = torch.where(scale > 0, 1.0 / scale, torch.zeros_like(scale))
    scaled = blocks * inverse
    whole = scaled.trunc()
    whole += ((scaled - whole).abs() >= 0.5) * scaled.sign()
    packed = torch.empty(len(blocks), Q8_0.size, dtype=torch.uint8)
    packed[:, :2] = scale.to(torch.float16).view(torch.uint8)
    packed[:, 2:] = whole.to(torch.int8).view(torch.uint8)
    return packed


def unpack_blocks(packed: Tensor) -> Tensor:
    """Give the N float32 numbers of bytes (N / 32, 34): each whole number times its block's scale."""
    blocks = packed.reshape(-1, Q8_0.size)
    scale = blocks[:, :2].contiguous().view(torch.float16).float()
    return (blocks[:, 2:].contiguous().view(torch.int8).float() * scale).view(-1)


def largest_error(numbers: Tensor) -> Tensor:
    """Bound |number - unpacked| for each block of N numbers: half a step, and what rounding the scale adds.

    With a = the largest magnitude: a / 254 for the step, and 127 times the scale's own rounding, at most 2^-11 of the
    scale or half of float16's smallest number, and 2^-20 of a for float32's roundings.
    """
    largest = numbers.reshape(-1, Q8_0.block).abs().amax(dim=1).double()
    rounding = torch.maximum(largest / HIGHEST * 2.0**-11, torch.full_like(largest, 2.0**-25))
    return largest / 254 + HIGHEST * rounding + largest * 2.0**-20
