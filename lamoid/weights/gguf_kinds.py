"""The kinds of metadata values and of tensors that a GGUF file names by number.

Source: the format's description, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import struct
from dataclasses import dataclass

import torch

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"
TEXT, LIST = 8, 9


@dataclass(frozen=True, slots=True)
class TensorKind:
    """How a tensor's numbers lie in a file: blocks of ``block`` numbers in ``size`` bytes.

    ``dtype`` is torch's name for it, None where the blocks must be unpacked.
    """

    name: str
    number: int
    block: int
    size: int
    dtype: torch.dtype | None = None

    def bytes_of(self, elements: int) -> int:
        """Give the bytes of so many numbers, a multiple of the block."""
        return elements // self.block * self.size


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the metadata, or a list of them: ``kind`` is a key of ``SCALARS`` or ``text``."""

    kind: str
    data: bool | int | float | str | list[bool] | list[int] | list[float] | list[str]


SCALARS = {
    "u8": (0, struct.Struct("<B")),
    "i8": (1, struct.Struct("<b")),
    "u16": (2, struct.Struct("<H")),
    "i16": (3, struct.Struct("<h")),
    "u32": (4, struct.Struct("<I")),
    "i32": (5, struct.Struct("<i")),
    "f32": (6, struct.Struct("<f")),
    "bool": (7, struct.Struct("<B")),
    "u64": (10, struct.Struct("<Q")),
    "i64": (11, struct.Struct("<q")),
    "f64": (12, struct.Struct("<d")),
}
"""Each fixed-size kind: the number that stands for it in a file, and its bytes."""

KINDS = {
    kind.name: kind
    for kind in (
        TensorKind("f32", 0, 1, 4, torch.float32),
        TensorKind("f16", 1, 1, 2, torch.float16),
        TensorKind("q4_0", 2, 32, 18),
        TensorKind("q4_1", 3, 32, 20),
        TensorKind("q5_0", 6, 32, 22),
        TensorKind("q5_1", 7, 32, 24),
        TensorKind("q8_0", 8, 32, 34),
        TensorKind("q2_k", 10, 256, 84),
        TensorKind("q3_k", 11, 256, 110),
        TensorKind("q4_k", 12, 256, 144),
        TensorKind("q5_k", 13, 256, 176),
        TensorKind("q6_k", 14, 256, 210),
        TensorKind("iq2_xxs", 16, 256, 66),
        TensorKind("iq2_xs", 17, 256, 74),
        TensorKind("iq3_xxs", 18, 256, 98),
        TensorKind("iq1_s", 19, 256, 50),
        TensorKind("iq4_nl", 20, 32, 18),
        TensorKind("iq3_s", 21, 256, 110),
        TensorKind("iq2_s", 22, 256, 82),
        TensorKind("iq4_xs", 23, 256, 136),
        TensorKind("i8", 24, 1, 1, torch.int8),
        TensorKind("i16", 25, 1, 2, torch.int16),
        TensorKind("i32", 26, 1, 4, torch.int32),
        TensorKind("i64", 27, 1, 8, torch.int64),
        TensorKind("f64", 28, 1, 8, torch.float64),
        TensorKind("iq1_m", 29, 256, 56),
        TensorKind("bf16", 30, 1, 2, torch.bfloat16),
        TensorKind("tq1_0", 34, 256, 54),
        TensorKind("tq2_0", 35, 256, 66),
        TensorKind("mxfp4", 39, 32, 17),
    )
}
F32, F16, BF16, Q8_0 = (KINDS[name] for name in ("f32", "f16", "bf16", "q8_0"))
