"""Rules and variants that mergekit has not, beside PEFT's functions and beside their formulas in plain torch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES

WEIGHTS = [0.75, 0.25, 0.375]
SHAPE = (41, 30)


def models(count: int = 3, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, list[Tensor]]:
    base = torch.randn(shape)
    return base, [base + 0.02 * (1 + i) * torch.randn(shape) for i in range(count)]


def near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("elect", ["unweighted", "count"])
@pytest.mark.parametrize("density", [0.2, 0.55, 1.0])
def test_ties_as_peft(density: float, elect: str, fuse_whole: Any) -> None:
    merge = pytest.importorskip("peft.utils.merge_utils", reason="peft is not installed")
    base, members = models()
    base = base.double()
    changes = [member.double() - base for member in members]
    method = {"unweighted": "total", "count": "frequency"}[elect]
    prune = merge.ties if density < 1.0 else _unpruned(merge)
    theirs = base + prune(changes, torch.tensor(WEIGHTS, dtype=torch.float64), density, method)
    options = {"density": density, "elect": elect}
    assert near(fuse_whole("ties@peft", members, base.float(), WEIGHTS, options), theirs)


def _unpruned(merge: Any) -> Any:
    def ties(changes: list[Tensor], weights: Tensor, density: float, method: str) -> Tensor:
        stack = torch.stack(changes)
        weighted = stack * weights.view(-1, 1, 1)
        return merge.disjoint_merge(weighted, merge.calculate_majority_sign_mask(stack, method))

    return ties


@pytest.mark.parametrize("rule", ["dare_linear", "dare_ties"])
def test_dare_as_peft_by_the_same_masks(rule: str, fuse_whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = pytest.importorskip("peft.utils.merge_utils", reason="peft is not installed")
    base, members = models()
    draws = [torch.rand(SHAPE) for _ in members]
    left = list(draws)
    monkeypatch.setattr(torch, "bernoulli", lambda chances: (left.pop(0) < chances).to(chances.dtype))
    changes = [member.double() - base.double() for member in members]
    theirs = base + getattr(merge, rule)(changes, torch.tensor(WEIGHTS, dtype=torch.float64), 0.3)
    options = {"density": 0.3, **({"elect": "unweighted", "divide": "count"} if rule == "dare_ties" else {})}
    assert near(fuse_whole(rule, members, base, WEIGHTS, options, draws=draws), theirs)


def test_rescaling_keeps_the_norm_that_is_named(fuse_whole: Any) -> None:
    base, (member,) = torch.zeros(SHAPE), [torch.randn(SHAPE)]
    for rule in ("ties", "breadcrumbs", "dare_linear", "della_linear"):
        for how, norm in (("l1", 1), ("l2", 2)):
            options = {"density": 0.4, "rescale": how}
            kept = fuse_whole(rule, [member], base, [1.0], options, draws=[torch.rand(SHAPE)])
            assert float((kept != 0.0).double().mean()) == pytest.approx(0.4, abs=0.06)
            assert float(kept.norm(norm)) == pytest.approx(float(member.double().norm(norm)), rel=1e-12)


def models_of_two_tensors() -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    shapes = {"a": (300, 150), "b": (50,), "c": (7, 3, 2)}
    base = {name: torch.randn(shape) for name, shape in shapes.items()}
    scale = {"a": 0.01, "b": 0.05, "c": 1.0}
    return base, [{n: x + scale[n] * torch.randn(x.shape) for n, x in base.items()} for _ in range(3)]


@pytest.mark.parametrize("rule", ["ties@paper", "ties@fusionbench"])
def test_ties_over_the_whole_model(rule: str, fuse_by_engine: Any) -> None:
    """The paper's steps on one flat vector: keep the top 20 %, elect by the sum, mean (or sum) of what agrees."""
    base, members = models_of_two_tensors()
    flat = [
        torch.cat([(member[name].double() - base[name].double()).reshape(-1) for name in base]) for member in members
    ]
    kept = []
    for change in flat:
        bound = change.abs().sort(descending=True).values[int(0.2 * change.numel()) - 1]
        kept.append(torch.where(change.abs() >= bound, change, 0.0))
    stack = torch.stack(kept)
    elected = torch.where(stack.sum(0) >= 0, 1.0, -1.0)
    agrees = stack.sign() == elected
    total = (stack * agrees).sum(0)
    change = total / agrees.sum(0).clamp_min(1) if rule == "ties@paper" else 0.3 * total
    fused = fuse_by_engine(rule, members, base, dtype=torch.float64)
    expected = torch.cat([x.double().reshape(-1) for x in base.values()]) + change
    assert near(torch.cat([fused[name].reshape(-1) for name in base]), expected)
    assert not near(fused["a"], fuse_by_engine("ties@peft", members, base, dtype=torch.float64)["a"])


def test_a_negative_weight_can_cancel_the_divisor(fuse_whole: Any) -> None:
    base = torch.zeros(3)
    members = [torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, -1.0, 3.0])]
    fused = fuse_whole("ties", members, base, [1.0, -1.0], {"density": 1.0})
    # Weighted votes (1, 2, 1) and (1, 1, -3): both agree on the first two, whose weights sum to 0.
    assert fused.tolist() == [2.0, 3.0, 3.0]


def test_magmax_takes_the_largest_change(fuse_whole: Any) -> None:
    base, members = models()
    changes = torch.stack([member.double() - base.double() for member in members])
    largest = changes.gather(0, changes.abs().argmax(0, keepdim=True))[0]
    assert near(fuse_whole("magmax", members, base), base + 0.5 * largest)
    ground, ones = torch.zeros(4), torch.ones(4)
    for pair in ([ones, -ones], [-ones, ones]):
        assert fuse_whole("magmax", pair, ground, options={"lambda": 1.0}).equal(ones.double())


def test_expo_goes_beyond(fuse_whole: Any) -> None:
    base, (member,) = models(1)
    assert near(fuse_whole("expo", [member], base, options={"alpha": 0.3}), 1.3 * member.double() - 0.3 * base.double())


@pytest.mark.parametrize("needed", [1, 2, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_consensus_keeps_what_enough_tasks_need(needed: int, normalize: bool, fuse_whole: Any) -> None:
    base, members = models()
    scale = 1.0 / sum(WEIGHTS) if normalize else 1.0
    parts = [scale * w * (member.double() - base.double()) for w, member in zip(WEIGHTS, members, strict=True)]
    total = sum(parts, torch.zeros(()).double())
    count = torch.stack([part.abs() > 0.6 * (total - part).abs() for part in parts]).sum(0)
    expected = base.double() + torch.where(count >= needed, total, 0.0)
    options = {"needed": needed, "normalize": normalize}
    assert near(fuse_whole("consensus_ta", members, base, WEIGHTS, options), expected)
    assert 0 < int((count >= needed).sum()) < count.numel()


def test_karcher_mean_has_the_least_squared_angles(fuse_whole: Any) -> None:
    """Weighted, which mergekit has not: no step away from the result lowers the weighted sum of squared angles."""
    members = [torch.randn(60) + 1.0 for _ in range(3)]
    mean = fuse_whole("karcher", members, None, WEIGHTS, {"max_iter": 100, "tol": 1e-12})
    units = [member.double() / member.double().norm() for member in members]

    def cost(point: Tensor) -> float:
        angles = [torch.acos(unit @ point / point.norm()) for unit in units]
        return float(sum(w * angle.square() for w, angle in zip(WEIGHTS, angles, strict=True)))

    length = sum(w * float(m.double().norm()) for w, m in zip(WEIGHTS, members, strict=True)) / sum(WEIGHTS)
    assert float(mean.norm()) == pytest.approx(length, rel=1e-12)
    least = cost(mean)
    assert all(cost(mean + 0.01 * torch.randn(60).double()) > least for _ in range(50))
    assert float(fuse_whole("karcher", [torch.zeros(4), torch.zeros(4)]).abs().max()) == 0.0
    alone = fuse_whole("karcher", [torch.zeros(4), torch.ones(4)], None, [1.0, 0.0])
    assert float(alone.abs().max()) == 0.0


def test_rows_of_nuslerp_are_rows(fuse_whole: Any) -> None:
    one, other = torch.randn(2, *SHAPE)
    fused = fuse_whole("nuslerp", [one, other], None, [0.4, 0.6], {"nuslerp_flatten": False, "nuslerp_row_wise": True})
    by_row = [fuse_whole("nuslerp", [a, b], None, [0.4, 0.6]) for a, b in zip(one, other, strict=True)]
    assert near(fused, torch.stack(by_row))
    fused = fuse_whole("nuslerp", [one, other], None, [0.4, 0.6], {"nuslerp_flatten": False})
    by_column = [fuse_whole("nuslerp", [a, b], None, [0.4, 0.6]) for a, b in zip(one.T, other.T, strict=True)]
    assert near(fused, torch.stack(by_column, 1))


def test_opposed_directions_cancel(fuse_whole: Any) -> None:
    one = torch.randn(50)
    fused = fuse_whole("multislerp", [one, -one], None, [0.5, 0.5])
    assert float(fused.abs().max()) == 0.0
    with pytest.raises(InputError, match="weighted directions cancel"):
        fuse_whole("multislerp", [one, -one, one, -one], None, [0.25] * 4)


def test_opposed_members_of_model_stock_leave_the_base(fuse_whole: Any) -> None:
    base, change = torch.randn(50).bfloat16().float(), torch.randn(50).bfloat16().float()
    fused = fuse_whole("model_stock", [base + change, base - change], base)
    assert torch.allclose(fused, base.double(), rtol=0.0, atol=1e-6)


def test_rows_of_one_element_are_dropped_by_the_density(fuse_whole: Any) -> None:
    member = torch.ones(5000, 1)
    draws = [torch.rand(5000, 1)]
    kept = fuse_whole("della_linear", [member], torch.zeros(5000, 1), options={"density": 0.4}, draws=draws)
    assert kept.equal(torch.where(draws[0] < 0.4, 1.0 / torch.tensor(0.4, dtype=torch.float64), 0.0))


def test_arcee_takes_its_quartiles_exactly(fuse_by_engine: Any) -> None:
    """On more elements than mergekit would look at, which samples 10^6 of them."""
    base, (member,) = models(1, (1100, 1000))
    fused = fuse_by_engine("arcee_fusion", [{"w": member}], {"w": base}, dtype=torch.float64)["w"]
    new, old = (torch.softmax(x.double(), -1) + 1e-8 for x in (member, base))
    importance = (member.double() - base.double()).abs() * (new * (new / old).log()).sum(-1, keepdim=True)
    ordered = importance.reshape(-1).sort().values
    first, median, third = (float(ordered[int(share * (ordered.numel() - 1))]) for share in (0.25, 0.5, 0.75))
    taken = importance >= median + 1.5 * (third - first)
    assert fused.equal(torch.where(taken, member, base).double())


REFUSED = [
    ("ties", {"density": 0.0}, "density is 0.0, must be above 0 and at most 1"),
    ("ties", {"density": [0.2, 1.5]}, "density is 1.5"),
    ("ties", {"density": float("nan")}, "density is nan"),
    ("dare_linear", {"lambda": float("inf")}, "lambda is inf"),
    ("dare_linear", {"rescale": "l3"}, "rescale"),
    ("breadcrumbs", {"gamma": -0.1}, "gamma is -0.1"),
    ("breadcrumbs_ties", {"gamma": 2.0}, "gamma is 2.0"),
    ("della", {"density": 0.1}, "epsilon is 0.15"),
    ("della_linear", {"density": [0.5, 0.9], "epsilon": 0.2}, "epsilon is 0.2"),
    ("slerp", {}, "t"),
    ("slerp", {"t": 1.5}, "t is 1.5, must lie from 0 to 1"),
    ("nearswap", {"t": -1.0}, "t is -1.0"),
    ("sce", {"select_topk": 1.1}, "select_topk is 1.1"),
    ("karcher", {"max_iter": -1}, "max_iter is -1"),
    ("karcher", {"tol": 0.0}, "tol is 0.0"),
    ("multislerp", {"eps": 0.0}, "eps is 0.0"),
    ("ram", {"epsilon": -1.0}, "epsilon is -1.0"),
    ("ramplus_tl", {"alpha": -1.0}, "alpha is -1.0"),
    ("passthrough", {"scale": float("nan")}, "scale is nan"),
    ("magmax", {"lambda": float("nan")}, "lambda is nan"),
    ("expo", {"alpha": float("inf")}, "alpha is inf"),
    ("consensus_ta", {"needed": -1}, "needed is -1"),
    ("linear", {"density": 0.5}, "density"),
]


@pytest.mark.parametrize(("rule", "options", "message"), REFUSED, ids=str)
def test_numbers_out_of_bounds_are_named(rule: str, options: dict[str, Any], message: str, fuse_whole: Any) -> None:
    base, members = models(RULES[rule].most or 2)
    with pytest.raises(ValueError, match=message):
        fuse_whole(rule, members, base, options=options)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("linear", {}),
        ("karcher", {}),
        ("multislerp", {}),
        ("fisher", {}),
        ("task_arithmetic", {"normalize": True}),
        ("dare_linear", {"normalize": True, "density": 0.5}),
        ("breadcrumbs", {"normalize": True}),
        ("consensus_ta", {"normalize": True}),
    ],
)
def test_weights_that_sum_to_nothing_are_refused(rule: str, options: dict[str, Any], fuse_whole: Any) -> None:
    base, members = models(2)
    with pytest.raises(InputError, match=r"weights: are 0.5, -0.5 and sum to 0"):
        fuse_whole(rule, members, base, [0.5, -0.5], options, draws=[torch.rand(SHAPE)] * 2)


def test_a_number_a_member_must_be_one_a_member(fuse_whole: Any) -> None:
    base, members = models(2)
    with pytest.raises(InputError, match="density: has 3 numbers for 2 members"):
        fuse_whole("ties", members, base, options={"density": [0.1, 0.2, 0.3]})


def test_every_rule_asked_for_is_in_the_table() -> None:
    outside_mergekit = {"magmax", "expo", "consensus_ta"}
    variants = {"ties@paper", "ties@mergekit", "ties@peft", "dare_linear@mergekit", "dare_ties@mergekit"}
    assert outside_mergekit | variants <= set(RULES)
    assert {name.partition("@")[0] for name in RULES} <= set(RULES)
    for rule in RULES.values():
        assert rule.says.endswith(".")
        assert (rule.plan.__doc__ or "").strip()
