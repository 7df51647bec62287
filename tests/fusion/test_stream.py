"""Streaming against an average in memory, bit for bit, and the laws of an average."""

import itertools
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion import memory, stream
from lamoid.fusion.finite import find_not_finite
from lamoid.fusion.memory import BLOCK, LEAST_BLOCK, RESERVE, block_elements, divide_memory, parse_memory
from lamoid.fusion.order import content_order
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Settings, Source, stream_fusion
from lamoid.weighing.sum import weighted_sum
from lamoid.weights.durable import NotCommitted, durable_folder
from lamoid.weights.header import read_header
from lamoid.weights.placed import PlacedFile
from lamoid.weights.read import Tensors

SHAPES = {"a.weight": (70, 1000), "b.bias": (3,), "c.scale": (), "d.none": (0, 5), "e.big": (1100, 1000)}
WEIGHTS = [0.2, 0.3, 0.5]


def draw(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    return {**tensors, "f.mixed": torch.randn(9, generator=generator).double(), "g.mask": torch.arange(5)}


def sources(folder: Path, members: list[dict[str, Tensor]], weights: list[float]) -> list[tuple[Source, float]]:
    found = []
    for index, (member, weight) in enumerate(zip(members, weights, strict=True)):
        path = folder / f"member{index}.safetensors"
        save_file(member, path)
        found.append((Source(f"member{index}", Tensors(read_header(path))), weight))
    return found


def asked(parts: list[tuple[Source, float]]) -> tuple[list[Source], None, Rule, Settings]:
    weights = [weight for _, weight in parts]
    return [source for source, _ in parts], None, RULES["linear"], lambda name: (weights, RULES["linear"].options())


def fuse(
    folder: Path, parts: list[tuple[Source, float]], name: str = "out", limit: int = 512 * 2**20
) -> dict[str, Tensor]:
    with durable_folder(folder / name) as draft:
        stream_fusion(*asked(parts), draft, memory=limit)
    return load_file(folder / name / "model.safetensors")


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert tensor.shape == other[name].shape
        assert (
            tensor.contiguous().flatten().view(torch.uint8).equal(other[name].contiguous().flatten().view(torch.uint8))
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_streamed_is_in_memory(tmp_path: Path, dtype: torch.dtype) -> None:
    members = [draw(seed, dtype) for seed in range(3)]
    parts = sources(tmp_path, members, WEIGHTS)
    order = content_order([part.tensors for part, _ in parts])
    expected = {
        name: weighted_sum([members[i][name] for i in order], [WEIGHTS[i] for i in order])
        for name in (*SHAPES, "f.mixed")
    }
    assert_equal(fuse(tmp_path, parts), {**expected, "g.mask": torch.arange(5)})


def test_memory_and_blocks_change_no_bit(tmp_path: Path) -> None:
    parts = sources(tmp_path, [draw(seed) for seed in range(3)], WEIGHTS)
    least = RESERVE + 13 * LEAST_BLOCK * 8 + 9 * 8 * LEAST_BLOCK
    assert_equal(fuse(tmp_path, parts), fuse(tmp_path, parts, "small", least))
    with pytest.raises(InputError, match=r"memory: is .* need at least"):
        fuse(tmp_path, parts, "none", least - 1)
    assert not (tmp_path / "none").exists()


def test_order_of_the_members_changes_no_byte(tmp_path: Path) -> None:
    parts = sources(tmp_path, [draw(seed, torch.float32) for seed in range(3)], WEIGHTS)
    files = set()
    for number, order in enumerate(itertools.permutations(parts)):
        fuse(tmp_path, list(order), str(number))
        files.add((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert len(files) == 1


def test_order_sees_what_the_samples_miss(tmp_path: Path) -> None:
    members = [draw(0) for _ in range(3)]
    for seed, member in enumerate(members):
        member["e.big"].view(-1)[7000] = seed
    parts = sources(tmp_path, members, WEIGHTS)
    names = {
        tuple(order[i][0].name for i in content_order([part.tensors for part, _ in order]))
        for order in itertools.permutations(parts)
    }
    assert len(names) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_laws_of_an_average(tmp_path: Path, dtype: torch.dtype) -> None:
    members = [draw(seed, dtype) for seed in range(3)]
    parts = sources(tmp_path, members, [0.0, 1.0, 0.0])
    assert_equal(fuse(tmp_path, parts, "one-weight"), members[1])
    assert_equal(fuse(tmp_path, [(Source("alone", parts[2][0].tensors), 1.0)], "one-member"), members[2])
    same = [(Source(str(i), parts[0][0].tensors), weight) for i, weight in enumerate([0.1, 0.2, 0.7])]
    assert_equal(fuse(tmp_path, same, "equal-members"), members[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_not_finite_member_is_named_and_nothing_is_left(tmp_path: Path, bad: float) -> None:
    members = [draw(seed) for seed in range(3)]
    members[1]["e.big"].view(-1)[-1] = bad
    parts = sources(tmp_path, members, WEIGHTS)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=r"member1: tensor e\.big: holds NaN or infinity"):
        fuse(tmp_path, parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert find_not_finite(parts[1][0].tensors) == "e.big"
    assert find_not_finite(parts[0][0].tensors) is None


def test_whole_numbers_must_be_equal(tmp_path: Path) -> None:
    members = [draw(seed) for seed in range(2)]
    members[1]["g.mask"][2] = 9
    with pytest.raises(InputError, match=r"tensor g\.mask: holds whole numbers that differ"):
        fuse(tmp_path, sources(tmp_path, members, [0.5, 0.5]))


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = sources(tmp_path, [draw(seed) for seed in range(2)], [0.5, 0.5])
    before, threads = sorted(path.name for path in tmp_path.iterdir()), threading.active_count()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PlacedFile, "_put", full)
    with pytest.raises(NotCommitted, match="No space left"):
        fuse(tmp_path, parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert threading.active_count() == threads


def test_a_member_that_shrinks_is_refused(tmp_path: Path) -> None:
    parts = sources(tmp_path, [draw(seed) for seed in range(2)], [0.5, 0.5])
    path = tmp_path / "member1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"member1\.safetensors"):
        fuse(tmp_path, parts)


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    parts = sources(tmp_path, [draw(0)], [1.0])
    told: list[int] = []
    with durable_folder(tmp_path / "out") as draft:
        stream_fusion(*asked(parts), draft, names=["a.weight", "b.bias"], advance=told.append)
    assert sum(told) == stream.total_bytes(parts[0][0].tensors, ["a.weight", "b.bias"]) == 2 * (70 * 1000 + 3)
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == {"a.weight", "b.bias"}


def test_slices_and_threads_fit_the_memory() -> None:
    assert block_elements(3, 2, 512 * 2**20) == BLOCK
    for models, itemsize, limit, threads in itertools.product(
        (1, 3, 50, 200), (2, 4, 8), (2**26, 2**28, 2**31), (1, 7)
    ):
        try:
            room = divide_memory(models, itemsize, limit, threads)
        except InputError:
            wide = 8 if itemsize >= 4 else 4
            assert RESERVE + ((3 * models + 4) * wide + (models + 6) * itemsize) * LEAST_BLOCK > limit
            continue
        assert room.slice_elements & (room.slice_elements - 1) == 0
        taken = (room.threads * models + room.waiting) * itemsize * room.slice_elements
        taken += room.threads * (3 * models + 4) * LEAST_BLOCK * (8 if itemsize >= 4 else 4)
        assert RESERVE + taken + room.kept_bytes + room.gathered_bytes <= limit


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 2**29),
        ("512 mib", 2**29),
        ("1.5GiB", 3 * 2**29),
        ("2GB", 2 * 10**9),
        ("64M", 64 * 10**6),
        ("1000", 1000),
        (4096, 4096),
        ("7B", 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "-1", "much", "1e9", "nan", "5 apples", "1" * 400, "1.5.5MB", "MiB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="memory"):
        memory.parse_memory(text)
