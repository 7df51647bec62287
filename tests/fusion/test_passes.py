"""What a rule sees: pieces, sums, draws; and that slices, threads, memory and processes change no bit of it."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.draws import Draws
from lamoid.fusion.memory import RESERVE
from lamoid.fusion.passes import dot_wide
from lamoid.fusion.rules.rule import PIECE, Combine, Options, Passes, Piece, Rule
from lamoid.fusion.stream import Source, fuse_in_memory, stream_fusion
from lamoid.weights.durable import durable_folder
from lamoid.weights.header import read_header
from lamoid.weights.read import Tensors, open_tensors

SHAPES = {"big": (90, 13_001), "rows": (1000, 37), "flat": (70_001,), "one": (), "none": (0, 4)}
WEIGHTS = [0.5, 0.3, 0.2]


def numbers(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def models(folder: Path, count: int, dtype: torch.dtype = torch.bfloat16) -> list[Source]:
    found = []
    for seed in range(count):
        save_file(numbers(seed, dtype), folder / f"{seed}.safetensors")
        found.append(Source(f"model{seed}", Tensors(read_header(folder / f"{seed}.safetensors"))))
    return found


def all_at_once(passes: Passes, weights: Sequence[float], options: Options) -> Combine:
    """Use everything that a plan may: sums, the largest, draws, the base."""
    norms = passes.totals(lambda piece: [delta.square() for delta in piece.deltas()])
    cuts = passes.largest(lambda piece: [delta.abs() for delta in piece.deltas()], [passes.elements // 3] * 3)
    products = passes.products(Piece.deltas, [(0, 1), (1, 2), (2, 2)])

    def combine(piece: Piece) -> Tensor:
        total = torch.zeros_like(piece.members[0])
        for index, delta in enumerate(piece.deltas()):
            mask = cuts[index].mask(piece, delta.abs()) & (piece.draw(index) < 0.7)
            total += delta * mask * (weights[index] / math.sqrt(norms[index] + 1.0))
        return piece.members[0] + total + piece.chosen(0, 0.4) * sum(products)

    return combine


@pytest.mark.parametrize("unit", ["element", "row", "tensor"])
def test_slices_threads_and_memory_change_no_bit(tmp_path: Path, unit: str) -> None:
    *members, base = models(tmp_path, 4)
    rule = Rule(all_at_once, "", base="needed", unit=unit)  # pyright: ignore[reportArgumentType]
    settings = lambda name: (WEIGHTS, Options())  # noqa: E731
    whole = fuse_in_memory(members, base, rule, settings, threads=1, memory=1 << 30)
    least = RESERVE + (14 if unit == "element" else 64) * 2**20
    for number, (threads, memory) in enumerate(itertools.product((1, 3), (least, 1 << 29))):
        with durable_folder(tmp_path / str(number)) as draft:
            stream_fusion(members, base, rule, settings, draft, threads=threads, memory=memory, shard_bytes=2_000_000)
        tensors = open_tensors(tmp_path / str(number))
        assert all(torch.equal(tensors.tensor(name), whole[name]) for name in SHAPES)


def test_a_permutation_of_the_members_changes_no_bit(tmp_path: Path) -> None:
    *members, base = models(tmp_path, 4, torch.float32)

    def plan(passes: Passes, weights: Sequence[float], options: Options) -> Combine:
        def combine(piece: Piece) -> Tensor:
            kept = [member * (piece.draw(i) < weights[i]) for i, member in enumerate(piece.members)]
            return kept[0] + kept[1] + kept[2] + piece.deltas()[0]

        return combine

    rule = Rule(plan, "", base="needed")
    results = []
    for order in itertools.permutations(range(3)):
        weights = [WEIGHTS[index] for index in order]
        given = [members[index] for index in order]
        results.append(fuse_in_memory(given, base, rule, lambda name, w=weights: (w, Options()), seed=3))
    assert all(torch.equal(result[name], results[0][name]) for result in results for name in SHAPES)
    other = fuse_in_memory(members, base, rule, lambda name: (WEIGHTS, Options()), seed=4)
    assert not torch.equal(other["big"], results[0]["big"])


@pytest.mark.parametrize("unit", ["element", "row", "tensor"])
def test_pieces_cover_every_tensor_once_in_wide_numbers(tmp_path: Path, unit: str) -> None:
    (member,) = models(tmp_path, 1)
    seen: dict[str, int] = dict.fromkeys(SHAPES, 0)

    def plan(passes: Passes, weights: Sequence[float], options: Options) -> Combine:
        assert passes.shape == SHAPES[passes.name]
        assert passes.elements == math.prod(passes.shape)

        def combine(piece: Piece) -> Tensor:
            (numbers,) = piece.members
            seen[passes.name] += numbers.numel()
            assert numbers.dtype == torch.float32
            width = passes.shape[-1] if passes.shape else 1
            assert numbers.ndim == {"element": 1, "row": 2, "tensor": len(passes.shape)}[unit]
            assert unit != "element" or (numbers.numel() <= PIECE and piece.first % PIECE == 0)
            assert unit != "row" or (numbers.shape[1] == width and numbers.numel() <= max(PIECE, width))
            assert unit != "tensor" or numbers.shape == passes.shape
            return numbers

        return combine

    rule = Rule(plan, "", unit=unit)  # pyright: ignore[reportArgumentType]
    result = fuse_in_memory([member], None, rule, lambda name: ([1.0], Options()))
    assert seen == {name: math.prod(shape) for name, shape in SHAPES.items()}
    assert all(torch.equal(result[name], tensor) for name, tensor in numbers(0, torch.bfloat16).items())


def test_sums_are_those_of_exact_arithmetic(tmp_path: Path) -> None:
    (member,) = models(tmp_path, 1, torch.float32)
    found = {}

    def plan(passes: Passes, weights: Sequence[float], options: Options) -> Combine:
        found[passes.name] = passes.totals(lambda piece: [piece.members[0], piece.members[0].square()])
        return lambda piece: piece.members[0]

    fuse_in_memory([member], None, Rule(plan, ""), lambda name: ([1.0], Options()))
    for name, tensor in numbers(0, torch.float32).items():
        if tensor.numel():
            exact = [math.fsum(tensor.double().view(-1).tolist()), math.fsum((tensor.double() ** 2).view(-1).tolist())]
            assert found[name] == pytest.approx(exact, rel=1e-12, abs=1e-9)


def test_a_survey_sees_the_whole_model_once(tmp_path: Path) -> None:
    members = models(tmp_path, 2)
    calls = []

    class Surveyed(Options, frozen=True):
        mean: float = 0.0

    def survey(passes: Passes, weights: Sequence[float], options: Options) -> Options:
        calls.append(passes.elements)
        (total,) = passes.totals(lambda piece: [piece.members[0]])
        return Surveyed(mean=total / passes.elements)

    def plan(passes: Passes, weights: Sequence[float], options: Options) -> Combine:
        assert isinstance(options, Surveyed)
        return lambda piece: torch.full_like(piece.members[0], options.mean)

    result = fuse_in_memory(members, None, Rule(plan, "", survey=survey), lambda name: ([0.5, 0.5], Options()))
    assert calls == [sum(math.prod(shape) for shape in SHAPES.values())]
    keys = {tensor.flatten()[0].item() for tensor in result.values() if tensor.numel()}
    assert len(keys) == 1


def test_the_need_of_whole_tensors_is_said_first(tmp_path: Path) -> None:
    members = models(tmp_path, 2)
    rule = Rule(all_at_once, "", unit="tensor", room=lambda shape, count: 2**30 if len(shape) == 2 else 0)
    with pytest.raises(InputError, match=r"memory: is .* the rule needs \d+ for the tensor big, which it takes whole"):
        fuse_in_memory(members, None, rule, lambda name: ([0.5, 0.5], Options()), memory=2**28)


def test_models_that_differ_are_named(tmp_path: Path) -> None:
    one, other = models(tmp_path, 2)
    save_file({name: x for name, x in numbers(1, torch.bfloat16).items() if name != "flat"}, tmp_path / "less")
    less = Source("less", Tensors(read_header(tmp_path / "less")))
    wide = Source("wide", models(tmp_path, 1, torch.float32)[0].tensors)
    rule = Rule(all_at_once, "")
    with pytest.raises(InputError, match="less: tensor flat: is not there"):
        fuse_in_memory([one, less], None, rule, lambda name: ([0.5, 0.5], Options()))
    with pytest.raises(InputError, match=r"wide: tensor \w+: dtype is torch.float32"):
        fuse_in_memory([other], wide, rule, lambda name: ([1.0], Options()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("elements", [1, 1023, 1024, PIECE + 7])
def test_inner_products_are_those_of_float64(dtype: torch.dtype, elements: int) -> None:
    generator = torch.Generator().manual_seed(elements)
    vectors = [torch.randn(elements, generator=generator, dtype=dtype) for _ in range(3)]
    pairs = [(0, 0), (0, 1), (2, 1)]
    for (i, j), found in zip(pairs, dot_wide(vectors, pairs), strict=True):
        lengths = float(vectors[i].double().norm() * vectors[j].double().norm())
        true = math.fsum((vectors[i].double() * vectors[j].double()).tolist())
        assert abs(found - true) < 8 * torch.finfo(dtype).eps * lengths


def test_draws_are_uniform_and_hang_on_nothing_but_their_place() -> None:
    draws = Draws(1, "member", "tensor")
    whole = draws.between(0, 5 * PIECE + 17)
    assert torch.equal(draws.between(PIECE - 5, 3 * PIECE), whole[PIECE - 5 : 4 * PIECE - 5])
    assert float(whole.min()) >= 0.0
    assert float(whole.max()) < 1.0
    for share in (0.01, 0.2, 0.5, 0.9):
        deviation = math.sqrt(share * (1 - share) / len(whole))
        assert float((whole < share).double().mean()) == pytest.approx(share, abs=5 * deviation)
        within = draws.below(PIECE - 5, 3 * PIECE, share)
        assert torch.equal(within.bool(), whole[PIECE - 5 : 4 * PIECE - 5] < share)
    for share in (0.0, 1e-9, 2.0**-16, 1 - 2.0**-20, 1.0):
        assert torch.equal(draws.below(0, len(whole), share).bool(), whole < share)
    for other in (Draws(2, "member", "tensor"), Draws(1, "other", "tensor"), Draws(1, "member", "bias")):
        pair = torch.stack([whole, other.between(0, len(whole))]).double()
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(len(whole))
