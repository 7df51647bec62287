"""Laws that every rule keeps which they apply to, through the engine: (a) to (i) of the rules' specification."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, fuse_in_memory, stream_fusion
from lamoid.weights.durable import durable_folder
from lamoid.weights.header import read_header
from lamoid.weights.read import Tensors

OURS = {name: rule for name, rule in RULES.items() if rule.statistic is None and rule.unit != "tensor"}
NEEDED = {"slerp": {"t": 0.3}, "nearswap": {"t": 0.01}}
SHAPES = {"a.weight": (70, 1000), "b.bias": (3,), "c.scale": (), "d.none": (0, 5), "e.conv": (5, 4, 30)}
STORED = [torch.bfloat16, torch.float16, torch.float32]
WEIGHTS = [0.5, 0.2, 0.3]


def options_for(name: str) -> dict[str, Any]:
    return dict(NEEDED.get(name, {}))


def members_of(rule: Rule, most: int = 3) -> int:
    return min(rule.most or most, most)


def models(count: int, dtype: torch.dtype, near: bool = True) -> list[dict[str, Tensor]]:
    """The base and so many members, near it or of magnitudes that have nothing to do with it."""
    generator = torch.Generator().manual_seed(count)

    def draw(shape: tuple[int, ...]) -> Tensor:
        numbers = torch.randn(shape, generator=generator)
        return numbers if near else numbers * 10.0 ** torch.empty(shape).uniform_(-3, 3, generator=generator)

    base = {name: draw(shape) for name, shape in SHAPES.items()}
    members = [
        {name: base[name] + 0.02 * draw(shape) if near else draw(shape) for name, shape in SHAPES.items()}
        for _ in range(count)
    ]
    return [{name: tensor.to(dtype) for name, tensor in model.items()} for model in [base, *members]]


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and tensor.reshape(-1).view(torch.uint8).equal(other[name].reshape(-1).view(torch.uint8))
        for name, tensor in one.items()
    )


@pytest.mark.parametrize("dtype", [*STORED, torch.float64])
@pytest.mark.parametrize("rule", ["linear", "karcher", "multislerp", "passthrough"])
def test_one_model_is_itself(rule: str, dtype: torch.dtype, fuse_by_engine: Any) -> None:
    """(a)"""
    base, *members = models(3, dtype, near=False)
    assert same_bits(fuse_by_engine(rule, [base], weights=[1.0]), base)
    if rule == "linear":
        assert same_bits(fuse_by_engine(rule, [base, *members], weights=[0.0, 0.0, 1.0, 0.0]), members[1])


WHOLE = {
    "slerp": {"t": 1.0},
    "task_arithmetic": {},
    "task_arithmetic@mergekit": {},
    **{name: {"density": 1.0} for name in OURS if name.startswith(("ties", "dare", "breadcrumbs", "della"))},
    "ties@fusionbench": {"density": 1.0, "lambda": 1.0},
    "sce": {},
    "nearswap": {"t": 1e9},
    "ram": {"epsilon": 0.0},
    "ramplus_tl": {"epsilon": 0.0, "r": 0.0},
    "magmax": {"lambda": 1.0},
    "expo": {"alpha": 0.0},
    "consensus_ta": {"needed": 1},
    "multislerp": {},
}


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("rule", WHOLE)
def test_the_whole_difference_of_one_model_gives_it(rule: str, dtype: torch.dtype, fuse_by_engine: Any) -> None:
    """(b), and bit for bit: B + (M - B) loses what is small beside B, so it is not computed that way."""
    base, member = models(1, dtype, near=False)
    fused = fuse_by_engine(rule, [member], base, [1.0], WHOLE[rule])
    assert all(fused[name].equal(member[name]) for name in SHAPES)


def test_every_rule_of_differences_keeps_that_law() -> None:
    # Those for two and more have no single model; Arcee's takes the important half by definition.
    others = {"model_stock", "arcee_fusion", "nuslerp", "nuslerp@mergekit"}
    assert set(WHOLE) | others == {name for name, rule in OURS.items() if rule.base != "none"}


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("rule", [name for name, rule in OURS.items() if rule.base != "none"])
def test_nothing_learned_gives_the_base(rule: str, dtype: torch.dtype, fuse_by_engine: Any) -> None:
    """(c)"""
    base = models(1, dtype, near=False)[0]
    count = members_of(OURS[rule])
    fused = fuse_by_engine(rule, [base] * count, base, WEIGHTS[:count], options_for(rule))
    assert all(fused[name].equal(base[name]) for name in SHAPES)


NORMALIZED = {
    "linear": {},
    "karcher": {},
    "multislerp": {},
    "nuslerp": {},
    "model_stock": {},
    "task_arithmetic": {"normalize": True},
    **{name: {"density": 1.0} for name in ("ties", "ties@paper", "ties@mergekit", "ties@peft", "dare_ties", "della")},
    "dare_linear": {"density": 1.0, "normalize": True},
    "breadcrumbs": {"density": 1.0, "normalize": True},
    "sce": {},
    "ram": {"epsilon": 0.0},
    "magmax": {"lambda": 1.0},
}


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("rule", NORMALIZED)
def test_equal_models_give_that_model(rule: str, dtype: torch.dtype, fuse_by_engine: Any) -> None:
    """(d), with the weights of one kind that sums to 1; PEFT's divides by the number and wants ones."""
    base, member = models(1, dtype)
    count = members_of(OURS[rule])
    weights = [1.0] * count if rule in ("ties@peft", "ties@paper") else WEIGHTS[:count]
    fused = fuse_by_engine(
        rule, [member] * count, None if OURS[rule].base == "none" else base, weights, NORMALIZED[rule]
    )
    for name in SHAPES:
        step = torch.finfo(dtype).eps
        assert torch.allclose(fused[name].double(), member[name].double(), rtol=step, atol=2.0**-30)


PER_MEMBER = {"density": [0.3, 0.5, 0.9], "gamma": [0.05, 0.1, 0.01], "epsilon": [0.05, 0.08, 0.09]}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rule", [name for name, rule in OURS.items() if rule.most != 1])
def test_order_of_members_changes_no_bit(rule: str, dtype: torch.dtype, fuse_by_engine: Any) -> None:
    """(e), with weights and numbers of their own for each member."""
    count = members_of(OURS[rule])
    base, *members = models(count, dtype)
    fields = OURS[rule].options.__struct_fields__
    own = {name: PER_MEMBER[name] for name in fields if name in PER_MEMBER and "density" in fields}
    found = []
    for order in [(0, 1, 2), (2, 1, 0), (1, 2, 0)] if count == 3 else [(0, 1), (1, 0)]:
        options = {name: [values[i] for i in order] for name, values in own.items()}
        fused = fuse_by_engine(
            rule,
            [members[i] for i in order],
            None if OURS[rule].base == "none" else base,
            [WEIGHTS[i] for i in order],
            {**options_for(rule), **options},
        )
        found.append(fused)
    assert all(same_bits(found[0], each) for each in found[1:])


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_slerp_ends_at_its_ends(t: float, dtype: torch.dtype, fuse_by_engine: Any) -> None:
    """(f)"""
    base, member = models(1, dtype, near=False)
    assert same_bits(fuse_by_engine("slerp", [member], base, options={"t": t}), member if t else base)
    either = fuse_by_engine("nuslerp", [base, member], weights=[1.0 - t, t])
    assert same_bits(either, member if t else base)


@pytest.mark.parametrize(("rule", "low", "high"), [("dare_linear", 0.25, 0.25), ("della_linear", 0.1, 0.4)])
def test_what_is_dropped_is_made_up_for_on_the_average(rule: str, low: float, high: float, fuse_whole: Any) -> None:
    """(g): E[kept] is the difference, to five standard errors of each element."""
    base, member = torch.zeros(4, 25), torch.randn(4, 25)
    density, epsilon = (low + high) / 2, (high - low) / 2
    options = {"density": density, **({"epsilon": epsilon} if epsilon else {})}
    rounds = 4000
    kept = [fuse_whole(rule, [member], base, [1.0], options, draws=[torch.rand(4, 25)]) for _ in range(rounds)]
    error = (torch.stack(kept).mean(0) - member).abs()
    assert bool((error <= 5.0 * member.abs() * (1.0 / low - 1.0) ** 0.5 / rounds**0.5).all())
    shares = torch.stack([(part != 0.0).double() for part in kept]).mean(0)
    order = member.abs().argsort(-1)
    assert float(shares.gather(-1, order)[:, 0].mean()) == pytest.approx(low, abs=0.03)
    assert float(shares.gather(-1, order)[:, -1].mean()) == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize("rule", OURS)
def test_streamed_is_in_memory(rule: str, tmp_path: Path, fuse_by_engine: Any, settings_of: Any) -> None:
    """(h), with the least memory and one thread against more of both; (i): the same tensors, each stored once."""
    count = members_of(OURS[rule])
    base, *members = models(count, torch.bfloat16)
    sources = []
    for number, model in enumerate([base, *members]):
        save_file(model, tmp_path / f"{number}.safetensors")
        sources.append(Source(str(number), Tensors(read_header(tmp_path / f"{number}.safetensors"))))
    settings = settings_of(rule, WEIGHTS[:count], options_for(rule))
    ground = None if OURS[rule].base == "none" else sources[0]
    with pytest.raises(InputError, match="need at least") as refused:
        fuse_in_memory(sources[1:], ground, OURS[rule], settings, memory=1)
    least = int(refused.value.problem.split()[-1])
    with durable_folder(tmp_path / "out") as draft:
        stream_fusion(sources[1:], ground, OURS[rule], settings, draft, memory=least, threads=1)
    streamed = load_file(tmp_path / "out" / "model.safetensors")
    held = fuse_by_engine(rule, members, base if ground else None, WEIGHTS[:count], options_for(rule), threads=3)
    assert same_bits(streamed, held)
    assert {name: tuple(tensor.shape) for name, tensor in streamed.items()} == SHAPES


@pytest.mark.parametrize("rule", [name for name in OURS if not name.startswith(("dare", "della"))])
def test_pieces_give_what_the_whole_gives(rule: str, fuse_by_engine: Any, fuse_whole: Any) -> None:
    """The engine's pieces, counts and sums against one sorted and summed tensor."""
    count = members_of(OURS[rule])
    flat = [torch.cat([x.reshape(-1) for x in model.values()])[:70_500] for model in models(count, torch.float32)]
    base, *members = ({"w": numbers.view(-1, 15)} for numbers in flat)
    ground = None if OURS[rule].base == "none" else base
    weights = WEIGHTS[:count]
    by_pieces = fuse_by_engine(rule, members, ground, weights, options_for(rule), dtype=torch.float64)["w"]
    whole = fuse_whole(rule, [member["w"] for member in members], ground and ground["w"], weights, options_for(rule))
    assert torch.allclose(by_pieces, whole, rtol=0.0, atol=2e-14)
