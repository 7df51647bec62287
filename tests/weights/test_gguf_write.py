"""What the writer writes, the format's own library reads bit for bit; q8_0 by that library and its definition."""

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import quants

from lamoid.errors import InputError
from lamoid.weights.gguf_blocks import largest_error, pack_blocks, unpack_blocks
from lamoid.weights.gguf_header import read_gguf
from lamoid.weights.gguf_kinds import KINDS, SCALARS, Value
from lamoid.weights.gguf_read import read_tensor
from lamoid.weights.gguf_write import GgufInfo, GgufWriter

METADATA = {
    "general.architecture": Value("text", "llama"),
    "a.u8": Value("u8", 255),
    "a.i64": Value("i64", -(2**63)),
    "a.f64": Value("f64", 1e-300),
    "a.bool": Value("bool", True),
    "a.text": Value("text", "\u00fc\x1b[31m \U0001f999"),
    "a.texts": Value("text", ["", "b", "\u2581c"]),
    "a.floats": Value("f32", [0.5, -1.0]),
    "a.bools": Value("bool", [True, False]),
    "a.nothing": Value("i32", []),
}


def write(path: Path, tensors: dict[str, tuple[str, torch.Tensor]], chunk: int = 64) -> Path:
    infos = [GgufInfo(name, KINDS[kind], tuple(tensor.shape)) for name, (kind, tensor) in tensors.items()]
    with path.open("wb") as file:
        writer = GgufWriter(file, METADATA, infos)
        for _, tensor in tensors.values():
            for part in tensor.reshape(-1).split(chunk):
                writer.write(part)
        writer.finish()
    return path


def bits(numbers: torch.Tensor) -> bytes:
    return numbers.contiguous().view(torch.uint8).numpy().tobytes()


def test_kinds_are_the_library_s() -> None:
    for kind in KINDS.values():
        theirs = gguf.GGMLQuantizationType(kind.number)
        assert theirs.name.lower() == kind.name
        assert gguf.GGML_QUANT_SIZES[theirs] == (kind.block, kind.size)
    for name, (number, form) in SCALARS.items():
        wanted = {"u": "UINT", "i": "INT", "f": "FLOAT"}.get(name[0], "BOOL") + (name[1:] if name != "bool" else "")
        assert gguf.GGUFValueType(number).name == wanted
        assert form.size == (1 if name == "bool" else int(name[1:]) // 8)


def test_round_trip_is_bitwise_here_and_in_the_library(tmp_path: Path) -> None:
    tensors = {
        "a.weight": ("f32", torch.randn(5, 3)),
        "b.weight": ("f16", torch.randn(3, 7).half()),
        "c.weight": ("bf16", torch.randn(2, 3, 4).bfloat16()),
        "d.bias": ("f32", torch.tensor([0.0, -0.0, 1e-45, 3.4e38])),
    }
    path = write(tmp_path / "m.gguf", tensors)
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert ours.metadata == METADATA
    for name, value in METADATA.items():
        if name != "a.nothing":  # the library cannot give an empty list
            assert theirs.fields[name].contents() == value.data
    for found, (name, (kind, tensor)) in zip(theirs.tensors, tensors.items(), strict=True):
        back = read_tensor(ours, name)
        assert back.dtype == KINDS[kind].dtype
        assert back.shape == tensor.shape
        assert bits(back) == bits(tensor) == found.data.tobytes()
        assert found.name == name
        assert found.data_offset % 32 == 0


def test_the_bytes_do_not_depend_on_the_chunks(tmp_path: Path) -> None:
    tensors = {"a": ("q8_0", torch.randn(6, 64)), "b": ("f16", torch.randn(96)), "c": ("bf16", torch.randn(7, 32))}
    files = [write(tmp_path / f"{chunk}.gguf", tensors, chunk).read_bytes() for chunk in (32, 96, 10**6)]
    assert files[0] == files[1] == files[2]


def hard_numbers() -> torch.Tensor:
    """Blocks at all scales, with zeros, halves between two steps, and one large number among small ones."""
    torch.manual_seed(0)
    scales = 10.0 ** torch.arange(-9, 6)
    spread = torch.cat([torch.randn(20, 32) * scale for scale in scales])
    halves = torch.cat([torch.tensor([127.0]), torch.arange(31) + 0.5])[None] * torch.tensor([[1.0], [-1.0], [0.25]])
    peaks = torch.full((4, 32), 1e-3).index_fill(1, torch.tensor([5]), 1e3)
    return torch.cat([spread, halves, peaks, torch.zeros(2, 32), torch.full((1, 32), -1e-45)])


def test_q8_0_is_the_library_s_bit_for_bit() -> None:
    numbers = hard_numbers()
    theirs = quants.quantize(numbers.numpy(), gguf.GGMLQuantizationType.Q8_0)
    ours = pack_blocks(numbers)
    assert ours.numpy().tobytes() == theirs.tobytes()
    back = quants.dequantize(theirs, gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(unpack_blocks(ours).numpy(), back.reshape(-1))


def test_q8_0_by_its_definition_and_within_its_bound() -> None:
    numbers = hard_numbers()
    packed = pack_blocks(numbers).numpy()
    scale = packed[:, :2].copy().view(np.float16).astype(np.float64)
    back = scale * packed[:, 2:].view(np.int8)
    error = np.abs(back - numbers.double().numpy()).max(axis=1)
    bound = largest_error(numbers).numpy()
    assert (error <= bound).all()
    assert (error > 0.5 * bound).any()  # the bound is near what happens
    assert np.abs(packed[:, 2:].view(np.int8)).max() == 127
    assert np.array_equal(unpack_blocks(pack_blocks(numbers)).numpy(), back.astype(np.float32).reshape(-1))


@pytest.mark.parametrize(
    ("kind", "numbers", "said"),
    [
        ("f32", [1.0, float("nan")], "NaN"),
        ("f16", [float("inf"), 1.0], "infinite"),
        ("f16", [1.0, 65520.0], "magnitude 6.552e.04, too large for f16"),
        ("q8_0", [1e7, *[0.0] * 31], "too large for q8_0"),
        ("q8_0", [float("nan"), *[0.0] * 31], "NaN"),
        ("bf16", [3.4e38, 0.0], "too large for bf16"),
    ],
)
def test_numbers_that_do_not_fit_are_named(kind: str, numbers: list[float], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"tensor 'the.one'.*{said}"):
        write(tmp_path / "m.gguf", {"the.one": (kind, torch.tensor(numbers))})


def test_mistakes_of_the_caller() -> None:
    info = GgufInfo("a", KINDS["q8_0"], (64,))
    with pytest.raises(ValueError, match="named twice"):
        GgufWriter(io.BytesIO(), {}, [info, info])
    for wrong in (
        GgufInfo("a", KINDS["q8_0"], (48,)),
        GgufInfo("a", KINDS["q4_k"], (256,)),
        GgufInfo("a", KINDS["f32"], (2,) * 5),
        GgufInfo("n" * 64, KINDS["f32"], (2,)),
    ):
        with pytest.raises(ValueError, match="cannot be written"):
            GgufWriter(io.BytesIO(), {}, [wrong])
    writer = GgufWriter(io.BytesIO(), {}, [info])
    for count in (16, 96):
        with pytest.raises(ValueError, match="where 64 of 'a' are left"):
            writer.write(torch.zeros(count))
    with pytest.raises(ValueError, match="were not written"):
        writer.finish()
    writer.write(torch.zeros(64))
    writer.finish()
    with pytest.raises(ValueError, match="the end"):
        writer.write(torch.zeros(32))
