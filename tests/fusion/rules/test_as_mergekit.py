"""Every rule that mergekit 0.1.5 has, beside mergekit's own function for it, on random tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from lamoid.fusion.rules.table import RULES

mergekit = pytest.importorskip("mergekit.merge_methods.api", reason="mergekit is not installed")

WEIGHTS = [0.75, 0.25, 0.375]
SHAPES = [(37, 64), (301, 17), (1001,)]


@dataclass(frozen=True)
class Case:
    """A rule with its numbers in our words and in mergekit's, where they differ."""

    rule: str
    members: int = 3
    base: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    weighted: bool = True

    @property
    def method(self) -> str:
        return self.rule.partition("@")[0]

    def __str__(self) -> str:
        return "-".join([self.rule, *(f"{name}={value}" for name, value in self.options.items())])


TRIMMED = [{"density": 0.3}, {"density": 0.3, "rescale": True, "lambda": 0.7}, {}]
CASES = [
    Case("linear", base=False),
    Case("linear", base=False, options={"normalize": False}),
    Case("slerp", 1, options={"t": 0.3}, weighted=False),
    Case("slerp", 1, options={"t": 1.0}, weighted=False),
    Case("nuslerp", 2, base=False),
    Case("nuslerp", 2),
    Case("nuslerp@mergekit", 2, options={"nuslerp_flatten": False}),
    Case("nuslerp@mergekit", 2, options={"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    Case("nuslerp@mergekit", 2, base=False, options={"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    Case(
        "nuslerp",
        2,
        options={"nuslerp_flatten": False, "nuslerp_row_wise": True},
        theirs={"nuslerp_row_wise": False},
    ),
    Case("multislerp", base=False),
    Case("multislerp"),
    Case("multislerp", options={"normalize_weights": False}),
    Case("karcher", base=False, weighted=False),
    Case("karcher", 2, base=False, options={"max_iter": 3, "tol": 1e-9}, weighted=False),
    Case("task_arithmetic"),
    Case("task_arithmetic", options={"normalize": True, "lambda": 0.4}),
    Case("task_arithmetic@mergekit", options={"density": 0.5}),
    *(Case("ties@mergekit", options=options) for options in TRIMMED),
    Case("ties@mergekit", options={"normalize": False, "density": 0.5}),
    Case("ties", theirs={"density": 0.2}),
    *(Case("breadcrumbs@mergekit", options=options) for options in TRIMMED),
    *(Case("breadcrumbs_ties@mergekit", options=options) for options in TRIMMED),
    Case("breadcrumbs@mergekit", options={"density": 0.5, "gamma": 0.0}),
    Case("breadcrumbs@mergekit", options={"density": 0.995, "gamma": 0.2}),
    Case("breadcrumbs", theirs={"density": 0.9, "gamma": 0.01}),
    Case("dare_linear@mergekit"),
    Case("dare_ties@mergekit"),
    Case("della@mergekit"),
    Case("della_linear@mergekit"),
    Case("sce", weighted=False),
    Case("sce", options={"select_topk": 0.4}, weighted=False),
    Case("model_stock", weighted=False),
    Case("model_stock", options={"filter_wise": True}, weighted=False),
    Case("nearswap", 1, options={"t": 0.004}, weighted=False),
    Case("arcee_fusion", 1, weighted=False),
    Case("ram", options={"epsilon": 0.01}, weighted=False),
    Case("ramplus_tl", options={"epsilon": 0.01}, weighted=False),
    Case("ramplus_tl", options={"epsilon": 0.03, "r": 0.5, "alpha": 2.0}, weighted=False),
    Case("passthrough", 1, base=False, options={"scale": 0.7}, weighted=False),
]
DRAWN = [
    Case("dare_linear@mergekit", options={"density": 0.4}),
    Case("dare_linear@mergekit", options={"density": 0.4, "rescale": False, "normalize": True}),
    Case("dare_ties@mergekit", options={"density": 0.4, "lambda": 1.2}),
    Case("della@mergekit", options={"density": 0.4, "epsilon": 0.1}),
    Case("della_linear@mergekit", options={"density": 0.6, "rescale": False}),
]
BITWISE = {"linear-normalize=False", "passthrough-scale=0.7", "nearswap-t=0.004"}


def models(case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(len(case.rule) + sum(shape))
    base = torch.randn(shape, generator=generator)
    members = [base + 0.02 * (1 + i) * torch.randn(shape, generator=generator) for i in range(case.members)]
    return base.to(dtype), [member.to(dtype) for member in members]


def merge(case: Case, base: Tensor, members: Sequence[Tensor], **dtypes: torch.dtype) -> Tensor:
    names = [f"member{i}" for i in range(len(members))]
    spread = {"density", "gamma", "epsilon", "scale"} if not case.method.startswith("ram") else {"scale"}
    parameters = {
        name: dict.fromkeys(names, value) if name in spread and case.method != "sce" else value
        for name, value in {**case.options, **case.theirs}.items()
    }
    if case.weighted:
        parameters["weight"] = dict(zip(names, WEIGHTS, strict=False))
    tensors, ids = ([base, *members], ["base", *names]) if case.base else (list(members), names)
    return mergekit.merge_tensors(
        tensors, case.method, parameters=parameters, ids=ids, base_index=0 if case.base else None, **dtypes
    )


@contextmanager
def first_among_equals() -> Iterator[None]:
    """Makes what mergekit sorts by magnitude stable: among equals, of which 16 bits have many, the first is larger."""

    def argsort(values: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
        order = torch.sort(-values.double(), dim=dim, stable=True).indices
        return order if descending else order.flip(dim)

    def sort(values: Tensor, descending: bool = False) -> SimpleNamespace:
        return SimpleNamespace(indices=argsort(values, descending=descending))

    def topk(values: Tensor, k: int, largest: bool = True) -> tuple[None, Tensor]:
        return None, argsort(values, descending=largest)[:k]

    stand_in = SimpleNamespace(**{**vars(torch), "argsort": argsort, "sort": sort, "topk": topk})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mergekit.sparsify.torch", stand_in)
        patch.setattr("mergekit.merge_methods.sce.torch", stand_in)
        yield


def ours(case: Case, fuse: Any, base: Tensor, members: list[Tensor], **more: Any) -> Tensor:
    weights = WEIGHTS[: len(members)] if case.weighted else None
    return fuse(case.rule, members, base if case.base else None, weights, case.options, **more)


def test_it_is_the_pinned_one() -> None:
    assert version("mergekit") == "0.1.5"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_numbers_in_float64(case: Case, shape: tuple[int, ...], fuse_whole: Any) -> None:
    base, members = models(case, shape, torch.float32)
    theirs = merge(case, base, members, dtype=torch.float64)
    mine = ours(case, fuse_whole, base, members)
    assert mine.dtype == theirs.dtype == torch.float64
    if str(case) in BITWISE:
        assert mine.equal(theirs)
    # Units in the last place of the largest number: products, sums and angles are rounded in another order; the counts
    # of RAM+ are divided in float32 there.
    unit = 2.0**-24 if case.rule == "ramplus_tl" else 64 * 2.0**-52
    assert float((mine - theirs).abs().max()) <= unit * float(base.abs().max())


# Where variances of 16-bit numbers are equal but for their rounding, which are the largest is chance.
CHANCE = {"sce-select_topk=0.4"}


@pytest.mark.parametrize("case", [case for case in CASES if str(case) not in CHANCE], ids=str)
def test_the_same_numbers_of_16_bits(case: Case, fuse_by_engine: Any) -> None:
    """Stored in bfloat16, computed in float32 by both: at most a step of the stored dtype, where roundings straddle."""
    base, members = models(case, SHAPES[0], torch.bfloat16)
    with first_among_equals():
        theirs = merge(case, base, members, dtype=torch.float32, out_dtype=torch.bfloat16)
    fused = fuse_by_engine(
        case.rule,
        [{"w": member} for member in members],
        {"w": base} if case.base else None,
        WEIGHTS[: len(members)] if case.weighted else None,
        case.options,
    )["w"]
    differ = fused != theirs
    assert float(differ.float().mean()) <= 0.01
    assert torch.allclose(fused.float(), theirs.float(), rtol=2.0**-7, atol=2.0**-18)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", DRAWN, ids=str)
def test_the_same_numbers_by_the_same_masks(
    case: Case, shape: tuple[int, ...], fuse_whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, members = models(case, shape, torch.float32)
    draws = [torch.rand(shape) for _ in members]
    left = list(draws)

    def bernoulli(chances: Tensor) -> Tensor:
        return (left.pop(0).view(chances.shape) < chances).to(chances.dtype)

    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    theirs = merge(case, base, members, dtype=torch.float32)
    mine = ours(case, fuse_whole, base, members, draws=draws)
    assert not left
    assert float((mine - theirs).abs().max()) <= 8 * 2.0**-23 * float(base.abs().max())
    assert not mine.equal(base.double())


@pytest.mark.parametrize("case", DRAWN, ids=str)
def test_the_same_in_distribution(case: Case, fuse_by_engine: Any) -> None:
    """The share of kept elements and the mean change agree, with draws of their own on both sides."""
    shape = (200, 400)
    base, members = models(case, shape, torch.float32)
    theirs = merge(case, base, members, dtype=torch.float32)
    mine = fuse_by_engine(case.rule, [{"w": m} for m in members], {"w": base}, WEIGHTS, case.options)["w"]
    changes = [(fused - base).double() for fused in (mine, theirs)]
    shares = [float((change.abs() > 1e-6).double().mean()) for change in changes]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    sizes = [float(change.square().mean().sqrt()) for change in changes]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_every_rule_of_mergekit_is_in_the_table_and_compared() -> None:
    from mergekit.merge_methods import registered_methods

    theirs = {method.spec.name for method in registered_methods()}
    assert theirs <= set(RULES)
    assert theirs == {case.method for case in CASES}
    for method in registered_methods():
        rule = RULES.get(f"{method.spec.name}@mergekit", RULES[method.spec.name])
        has = {each.encode_name: each for each in msgspec.structs.fields(rule.options)}
        for parameter in method.spec.parameters:
            if parameter.name in ("weight", "int8_mask"):
                continue
            assert parameter.name in has, (method.spec.name, parameter.name)
            if not parameter.required:
                assert has[parameter.name].default == parameter.default, (method.spec.name, parameter.name)
