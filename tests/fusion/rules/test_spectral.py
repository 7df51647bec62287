"""TSV-M and Iso-C beside numpy's singular values, Fisher and RegMean beside their definitions on data."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.rules.regmean import regmean_room
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.rules.tsv_m import spectral_room
from lamoid.fusion.stream import Source, fuse_in_memory
from lamoid.weights.header import TensorInfo

SHAPES = {"tall": (40, 12), "wide": (12, 40), "vector": (40,)}
Models = list[dict[str, Tensor]]


@pytest.fixture
def models() -> Models:
    """A base and three members."""
    base = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    members = [{name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in base.items()} for _ in range(3)]
    return [base, *members]


def procrustes(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def expected_tsv_m(deltas: list[np.ndarray]) -> np.ndarray:
    kept = min(deltas[0].shape) // len(deltas)
    lefts, values, rights = zip(*(np.linalg.svd(delta, full_matrices=False) for delta in deltas), strict=True)
    left = procrustes(np.concatenate([u[:, :kept] for u in lefts], axis=1))
    right = procrustes(np.concatenate([v[:kept] for v in rights], axis=0))
    return left @ np.diag(np.concatenate([s[:kept] for s in values])) @ right


def expected_iso_c(deltas: list[np.ndarray]) -> np.ndarray:
    left, values, right = np.linalg.svd(sum(deltas[1:], deltas[0]), full_matrices=False)
    return left @ right * values.mean()


def expected_iso_cts(deltas: list[np.ndarray]) -> np.ndarray:
    """Of rank 12, int(0.8 x 12) = 9 are common, and 3 members have one direction each."""
    left, values, right = np.linalg.svd(sum(deltas[1:], deltas[0]), full_matrices=False)
    lefts, rights, strengths = [left[:, :9]], [right[:9]], list(values[:9])
    for delta in deltas:
        u, s, v = np.linalg.svd(delta - lefts[0] @ lefts[0].T @ delta, full_matrices=False)
        lefts.append(u[:, :1])
        rights.append(v[:1])
        strengths.append(s[0])
    return procrustes(np.concatenate(lefts, axis=1)) @ procrustes(np.concatenate(rights)) * np.mean(strengths)


RULES_BY_NUMPY = [("tsv_m", expected_tsv_m), ("iso_c", expected_iso_c), ("iso_cts", expected_iso_cts)]


@pytest.mark.parametrize(("rule", "expected"), RULES_BY_NUMPY)
@pytest.mark.parametrize("factor", [1.0, 0.4])
def test_as_numpy_gives_it(
    models: Models, fuse_by_engine: Any, rule: str, expected: Callable[[list[np.ndarray]], np.ndarray], factor: float
) -> None:
    base, *members = models
    fused = fuse_by_engine(rule, members, base, options={"lambda": factor})
    for name in ("tall", "wide"):
        deltas = [(member[name].double() - base[name].double()).numpy() for member in members]
        wanted = base[name].double().numpy() + factor * expected(deltas)
        np.testing.assert_allclose(fused[name].numpy(), wanted, rtol=1e-5, atol=1e-6)
    mean = torch.stack([member["vector"] - base["vector"] for member in members]).mean(0)
    torch.testing.assert_close(fused["vector"], base["vector"] + factor * mean)


@pytest.mark.parametrize("rule", ["tsv_m", "iso_c", "iso_cts"])
def test_the_laws_of_spectral_rules(models: Models, fuse_by_engine: Any, rule: str) -> None:
    base, *members = models
    nothing = fuse_by_engine(rule, [base, base, base], base)
    permuted = [fuse_by_engine(rule, order, base) for order in (members, members[::-1])]
    for name, tensor in base.items():
        torch.testing.assert_close(nothing[name], tensor, rtol=1e-6, atol=1e-6)
        assert torch.equal(permuted[0][name], permuted[1][name])
    if rule == "tsv_m":  # one task needs no room for others
        alone = fuse_by_engine(rule, members[:1], base)
        assert all(torch.equal(alone[name], tensor) for name, tensor in members[0].items())


def test_iso_cts_with_nothing_but_the_common_space_is_iso_c(models: Models, fuse_by_engine: Any) -> None:
    base, *members = models
    fused = fuse_by_engine("iso_cts", members, base, options={"common_space_fraction": 1.0})
    for name, tensor in fuse_by_engine("iso_c", members, base).items():
        torch.testing.assert_close(fused[name], tensor, rtol=1e-5, atol=1e-6)
    all_own = fuse_by_engine("iso_cts", members, base, options={"common_space_fraction": 0.0})
    assert not torch.allclose(all_own["tall"], fused["tall"], atol=1e-3)


def test_matrices_alone_need_room() -> None:
    assert spectral_room((40,), 3) == regmean_room((2, 3, 4), 3) == 0
    assert spectral_room((40, 12), 3) >= 8 * 3 * 40 * 12
    assert regmean_room((40, 12), 3) >= 4 * 3 * 12 * 12 + 8 * (40 * 12 + 12 * 12)


def test_a_spectral_rule_says_what_it_needs_before_anything_is_read(models: Models, fuse_by_engine: Any) -> None:
    base, *members = ({"big": torch.zeros(3000, 2000)} for _ in range(3))
    with pytest.raises(ValueError, match=r"big|memory"):
        fuse_by_engine("tsv_m", members, base, memory=64 * 2**20)


class Products:
    """Statistics in memory, of shapes of their own."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> TensorInfo:
        tensor = self.tensors[name]
        return TensorInfo(name, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes, "memory")  # type: ignore[arg-type]

    def read_into(self, name: str, first: int, out: Tensor) -> None:
        out.copy_(self.tensors[name].reshape(-1)[first : first + out.numel()])


def fuse(rule: str, members: Models, known: Models, held: Any, settings_of: Any, **options: Any) -> dict[str, Tensor]:
    weights = options.pop("weights", [1.0] * len(members))
    how = {name: options.pop(name) for name in ("memory",) if name in options}
    sources = [
        Source(f"m{i}", held(member), statistics=Products(part))  # type: ignore[arg-type]
        for i, (member, part) in enumerate(zip(members, known, strict=True))
    ]
    return fuse_in_memory(sources, None, RULES[rule], settings_of(rule, weights, options), **how)


@pytest.mark.parametrize(("shape", "flipped"), [((20_000, 8), False), ((8, 20_000), True)])
def test_regmean_needs_room_by_the_inputs_that_there_are(
    settings_of: Any, held: Any, shape: tuple[int, int], flipped: bool
) -> None:
    """A table of many words has no products, and a head of many answers has few inputs: neither is a square of them."""
    members = [{"map": torch.randn(shape), "table": torch.randn(30_000, 4)} for _ in range(2)]
    product = torch.eye(8)[None] if flipped else torch.eye(8)
    found = fuse("regmean", members, [{"map": product}] * 2, held, settings_of)
    torch.testing.assert_close(found["table"], (members[0]["table"] + members[1]["table"]) / 2)
    torch.testing.assert_close(found["map"], (members[0]["map"] + members[1]["map"]) / 2)
    wide = torch.eye(2000)[None] if flipped else torch.eye(2000)
    maps = [{"map": torch.zeros((2000, 8) if flipped else (8, 2000))} for _ in range(2)]
    with pytest.raises(ValueError, match=r"memory.*tensor map"):
        fuse("regmean", maps, [{"map": wide}] * 2, held, settings_of, memory=64 * 2**20)


def test_regmean_of_equal_members_is_them(settings_of: Any, held: Any) -> None:
    member = {"map": torch.randn(7, 5)}
    known = [{"map": x.T @ x} for x in (torch.randn(30, 5), torch.randn(40, 5))]
    assert torch.equal(fuse("regmean", [member, member], known, held, settings_of)["map"], member["map"])


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.3, 0.7]])
def test_regmean_is_the_least_squares_of_all_members_answers(
    settings_of: Any, held: Any, flipped: bool, weights: list[float]
) -> None:
    inputs = [torch.randn(200, 12, dtype=torch.float64) for _ in weights]
    maps = [torch.randn(12, 7, dtype=torch.float64) for _ in weights]
    rows = torch.cat([x * w**0.5 for x, w in zip(inputs, weights, strict=True)])
    answers = torch.cat([x @ m * w**0.5 for x, m, w in zip(inputs, maps, weights, strict=True)])
    wanted = torch.linalg.lstsq(rows, answers).solution
    members = [
        {"map": m if flipped else m.T.contiguous(), "bias": torch.full((3,), float(i))} for i, m in enumerate(maps)
    ]
    known = [{"map": (x.T @ x)[None] if flipped else x.T @ x} for x in inputs]
    found = fuse("regmean", members, known, held, settings_of, alpha=1.0, weights=weights)
    torch.testing.assert_close(found["map"] if flipped else found["map"].T, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["bias"], torch.full((3,), weights[1] / sum(weights)))


def test_regmean_without_shared_inputs_averages_each_input_by_its_size(settings_of: Any, held: Any) -> None:
    """With alpha 0 each column is the mean weighted with the squares of its input; an input that is 0: the mean."""
    members = [{"map": torch.randn(5, 3)} for _ in range(2)]
    sizes = [torch.tensor([1.0, 4.0, 0.0]), torch.tensor([3.0, 1.0, 0.0])]
    known = [{"map": size.diag() + 0.3 * (1 - torch.eye(3))} for size in sizes]
    found = fuse("regmean", members, known, held, settings_of, alpha=0.0)["map"]
    wanted = (members[0]["map"] * sizes[0] + members[1]["map"] * sizes[1]) / (sizes[0] + sizes[1])
    wanted[:, 2] = (members[0]["map"][:, 2] + members[1]["map"][:, 2]) / 2
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_fisher_weighs_each_number(settings_of: Any, held: Any) -> None:
    members = [{"a": torch.randn(70_000), "b": torch.randn(3)} for _ in range(2)]
    known = [{"a": torch.rand(70_000) + 0.1, "b": torch.zeros(3)} for _ in range(2)]
    plain = fuse("fisher", members, known, held, settings_of, normalize=False)
    total = known[0]["a"] + known[1]["a"]
    wanted = (known[0]["a"] * members[0]["a"] + known[1]["a"] * members[1]["a"]) / total
    torch.testing.assert_close(plain["a"], wanted)
    torch.testing.assert_close(plain["b"], (members[0]["b"] + members[1]["b"]) / 2)
    louder = [known[0], {name: 100.0 * part for name, part in known[1].items()}]
    normed = [fuse("fisher", members, each, held, settings_of) for each in (known, louder)]
    torch.testing.assert_close(normed[0]["a"], normed[1]["a"], rtol=1e-4, atol=1e-5)
    alone = fuse("fisher", members, known, held, settings_of, weights=[1.0, 0.0])
    torch.testing.assert_close(alone["a"], members[0]["a"])


@pytest.mark.parametrize(
    ("rule", "bad"), [("fisher", math.nan), ("fisher", math.inf), ("fisher", -1.0), ("regmean", math.nan)]
)
def test_a_statistic_that_cannot_be_is_named(settings_of: Any, held: Any, rule: str, bad: float) -> None:
    """One NaN in it made the norm of all of it NaN, and the result a plain mean without a word."""
    members = [{"map": torch.randn(8, 8)} for _ in range(2)]
    wrong = torch.eye(8)
    wrong[3, 3] = bad
    with pytest.raises(InputError, match=r"m1: tensor map: its statistic holds NaN.*Measure it anew"):
        fuse(rule, members, [{"map": torch.eye(8)}, {"map": wrong}], held, settings_of)
