"""Weights by the slopes of the measured loss: against differences of that loss, and against the search without them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.evaluation.perplexity import Loss
from lamoid.recipes.fuse import fuse
from lamoid.recipes.fusion_candidates import Candidates
from lamoid.recipes.fusion_descent import loss_slopes
from lamoid.recipes.fusion_plan import make_plan
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, Setting, TaskTable
from lamoid.recipes.fusion_tasks import HandedTask
from lamoid.recipes.fusion_trial import read_trial
from lamoid.recipes.measuring import Measuring
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

LAW = "the court finds that the party of the first part owes the second. "
CODE = "def add(self, other): return self.value + other.value  # sums\n"
STEP = 0.02


def make_members(folder: Path, family: str, *, tied: bool = True, dtype: torch.dtype = torch.float32) -> None:
    """Save a base and three members, each of them near it."""
    tokenizer = train_tokenizer([LAW, CODE], vocab=280)
    for text, name in ((LAW, "law"), (CODE, "code")):
        (folder / f"{name}.jsonl").write_bytes(
            b"\n".join(msgspec.json.encode({"text": f"{n} {text * (1 + n % 3)}"}) for n in range(60))
        )
    shape = Shape(family=family, width=32, layers=2, heads=4, context=48)  # pyright: ignore[reportArgumentType]
    spec = shape.spec(tokenizer.vocab)
    states = []
    for seed in range(4):
        model = LanguageModel(spec)
        initialise(model, seed, deviation=0.1 if seed == 0 else 0.05)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    for seed, name in enumerate(("base", "a", "b", "c")):
        model = LanguageModel(spec)
        model.load_state_dict({key: states[0][key] + (states[seed][key] if seed else 0.0) for key in states[0]})
        Llama(model.to(dtype), tokenizer).save(folder / name)


def prepare(folder: Path, rule: str, **more: Any) -> Candidates:
    members = [MemberTable(str(folder / name)) for name in "abc"]
    base = None if rule == "linear" else str(folder / "base")
    tasks = [TaskTable("law", str(folder / "law.jsonl"), weight=2.0), TaskTable("code", str(folder / "code.jsonl"))]
    plan = make_plan(FusionRecipe(str(folder / "out"), members, rule, base, weights="descend", tasks=tasks, **more))
    trial = read_trial(plan, (), {}, Measuring())
    assert trial is not None
    return Candidates(plan, trial)


@pytest.mark.parametrize("rule", ["linear", "task_arithmetic"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma2"])
def test_slopes_are_the_differences_of_the_measured_loss(tmp_path: Path, family: str, rule: str) -> None:
    make_members(tmp_path, family)
    options = {} if rule == "linear" else {"lambda": [{"filter": "mlp", "value": 0.3}, {"value": 0.8}]}
    candidates = prepare(tmp_path, rule, options=msgspec.convert(options, dict[str, Setting]))
    weights = [0.5, 0.3, 0.2]
    slopes = loss_slopes(candidates.plan, candidates, weights)

    def loss(first: float, second: float) -> float:
        return candidates.loss(candidates.plan.blend([weights[0] + first, weights[1] + second, 0.2 - first - second]))

    for index, moves in enumerate([(STEP, 0.0), (0.0, STEP)]):
        up, down = loss(*moves), loss(*[-move for move in moves])
        assert slopes[index] - slopes[2] == pytest.approx((up - down) / (2 * STEP), rel=0.02, abs=2e-4)


def test_bfloat16_slopes_are_near_those_of_float32(tmp_path: Path) -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        folder = tmp_path / str(dtype)
        folder.mkdir()
        make_members(folder, "llama", dtype=dtype)
        candidates = prepare(folder, "linear")
        slopes = loss_slopes(candidates.plan, candidates, [0.5, 0.3, 0.2])
        found.append([slope - slopes[2] for slope in slopes[:2]])
    assert found[1] == pytest.approx(found[0], rel=0.1, abs=0.01)


def test_descending_is_not_worse_than_searching(tmp_path: Path) -> None:
    make_members(tmp_path, "llama")
    task = f"law={tmp_path / 'law.jsonl'}"
    members = [tmp_path / name for name in "abc"]
    results = {
        way: fuse(members, task=[task], weights=way, budget=budget, out=tmp_path / way)
        for way, budget in (("descend", 12), ("search", 60))
    }
    lowest = {way: min(loss for _, loss in result.mixtures) for way, result in results.items()}
    assert lowest["descend"] <= lowest["search"] + 1e-3
    assert lowest["descend"] < results["descend"].mixtures[0][1] - 1e-3
    mixtures = {tuple(weights): loss for weights, loss in results["descend"].mixtures}
    weights = [member.weight for member in results["descend"].members]
    assert mixtures[tuple(weight for weight in weights if weight is not None)] == lowest["descend"]
    assert any(note.startswith("The weights (descend) came of 1") for note in results["descend"].notes)


def test_the_same_command_gives_the_same_weights(tmp_path: Path) -> None:
    make_members(tmp_path, "gpt2")
    found = [
        fuse(
            [tmp_path / name for name in "abc"],
            on=tmp_path / "law.jsonl",
            rule="task_arithmetic",
            base=tmp_path / "base",
            weights="descend",
            budget=5,
            out=tmp_path / f"out{run}",
        )
        for run in range(2)
    ]
    assert [member.weight for member in found[0].members] == [member.weight for member in found[1].members]


def test_rules_that_are_not_linear_in_the_weights_are_refused(tmp_path: Path) -> None:
    make_members(tmp_path, "llama")
    with pytest.raises(
        InputError, match=r"^weights: are to be found by 'descend', .* the rule is ties. Ask for search"
    ):
        prepare(tmp_path, "ties")


def test_a_function_has_no_slopes(tmp_path: Path) -> None:
    make_members(tmp_path, "llama")

    def one(llama: Llama) -> list[Loss]:
        return [Loss(1.0, 1, 1)] * 40

    with pytest.raises(InputError, match=r"^weights: .* near is measured by a function: it has no gradient. Ask for"):
        fuse(
            [tmp_path / "a", tmp_path / "b"], task=[HandedTask("near", one, one)], weights="descend", out=tmp_path / "o"
        )
    assert not (tmp_path / "o").exists()
