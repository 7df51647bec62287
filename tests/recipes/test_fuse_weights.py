"""Weights found on the measuring half, and what is saved where the fusion is worse than its best member."""

import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.evaluation.perplexity import Loss
from lamoid.recipes.fuse import fuse
from lamoid.recipes.fusion_tasks import HandedTask
from lamoid.verbs.llama import Llama

MIDDLE = (0.2, 0.5, 0.3)
"""The mixture of the members that the target is."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members, and a target between them."""
    folder = tmp_path_factory.mktemp("models")
    states = []
    for seed in range(3):
        model = LanguageModel(Shape(width=16, layers=1, heads=2, context=16).spec(32))
        initialise(model, seed, deviation=0.2)
        states.append(model.state_dict())
        Llama(model).save(folder / "abc"[seed])
    mixed = {key: sum(w * state[key] for w, state in zip(MIDDLE, states, strict=True)) for key in states[0]}
    model = LanguageModel(Shape(width=16, layers=1, heads=2, context=16).spec(32))
    model.load_state_dict(mixed)
    Llama(model).save(folder / "target")
    return folder


@pytest.fixture(autouse=True)
def place(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the models in it."""
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def near(name: str, calls: Counter[str] | None = None) -> Callable[[Llama], list[Loss]]:
    """Give a loss of 40 examples: how far a model's parameters lie from those of ``name``."""
    target = lamoid.load(name).model.state_dict()

    def losses(llama: Llama) -> list[Loss]:
        if calls is not None:
            calls[llama.name.split()[0]] += 1
        parts = llama.model.state_dict()
        apart = math.sqrt(sum(float((parts[key].double() - target[key].double()).square().sum()) for key in parts))
        return [Loss(apart * (1.0 + 0.001 * n), 1, 1) for n in range(40)]

    return losses


def mean(losses: list[Loss]) -> float:
    return sum(loss.nats for loss in losses) / len(losses)


def run(**arguments: Any):
    return fuse(list("abc"), out="out", task=[HandedTask("near", near("target"), near("target"))], **arguments)


def found(result: Any) -> float:
    """Give the loss of what was saved."""
    return mean(near("target")(lamoid.load("out")))


def test_the_search_finds_the_mixture_that_there_is(place: Path) -> None:
    result = run(weights="search", budget=150)
    assert [member.weight for member in result.members] == pytest.approx(MIDDLE, abs=0.05)
    assert result.verdict == "better"
    assert 0 < len(result.mixtures) - 3 <= 150
    assert found(result) <= min(loss for _, loss in result.mixtures) * (1.0 + 1e-6)


@pytest.mark.parametrize("way", ["greedy", "pack", "search"])
def test_what_a_search_takes_is_no_worse_than_all_that_it_saw(place: Path, way: str) -> None:
    result = run(weights=way)
    assert sum(member.weight or 0.0 for member in result.members) == pytest.approx(1.0)
    assert found(result) <= min(loss for _, loss in result.mixtures) * (1.0 + 1e-6)
    assert found(result) <= min(member.nats_per_token or math.inf for member in result.members)
    assert any(
        re.search(r"mixtures tried on the measuring half; the verdict is on text that the search has not", note)
        for note in result.notes
    )
    if way == "greedy":
        assert len({member.weight for member in result.members} - {0.0}) == 1


def test_tau_auto_is_better_than_any_that_a_person_would_try(place: Path) -> None:
    automatic = found(run(weights="loss", tau="auto"))
    for tau in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        assert automatic <= found(run(weights="loss", tau=tau, overwrite=True)) * 1.001


def test_no_search_sees_what_is_judged_on(place: Path) -> None:
    measured, judged = Counter[str](), Counter[str]()
    task = HandedTask("near", near("target", measured), near("b", judged))
    fuse(list("abc"), out="out", task=[task], weights="search")
    assert judged == {"a": 1, "b": 1, "c": 1, "uniform": 1, "fused": 1}
    assert measured["mixture"] > 5
    assert set(measured) == {"a", "b", "c", "mixture"}


def test_what_is_worse_where_it_is_measured_is_not_saved(place: Path) -> None:
    task = [HandedTask("near", near("a"), near("a"))]
    told = fuse(list("ac"), out="told", task=task, weights="0.1,0.9")
    assert (told.verdict, told.saved, told.rejected) == ("worse", "fused", [])
    result = fuse(list("ac"), out="out", task=task, weights="0.1,0.9", never_worse=True)
    assert (result.verdict, result.saved) == ("equal", "greedy soup")
    assert [member.weight for member in result.members] == [1.0, 0.0]
    assert Path("out/model.safetensors").read_bytes() == Path("a/model.safetensors").read_bytes()
    assert [(each.kind, each.weights, each.judged) for each in result.rejected] == [("fused", [0.1, 0.9], None)]
    assert result.rejected[0].measured == pytest.approx(told.fused.judged if told.fused else 0.0, rel=1e-6)
    assert not any("judging text had its part" in note for note in result.notes)


def test_what_is_judged_worse_is_not_saved_and_that_is_said(place: Path) -> None:
    task = [HandedTask("near", near("c"), near("a"))]
    result = fuse(list("ac"), out="out", task=task, tau=0.5, never_worse=True)
    assert (result.verdict, result.saved, result.best_member) == ("equal", "best member", "a")
    assert Path("out/model.safetensors").read_bytes() == Path("a/model.safetensors").read_bytes()
    assert result.rejected[0].kind == "fused"
    assert all(each.verdict == "worse" and each.judged is not None for each in result.rejected)
    assert any("judging text had its part" in note for note in result.notes)
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


def test_what_is_better_is_saved_as_it_was_asked_for(place: Path) -> None:
    plain = run(weights="0.2,0.5,0.3")
    careful = run(weights="0.2,0.5,0.3", never_worse=True, overwrite=True)
    assert (careful.saved, careful.rejected, careful.verdict) == ("fused", [], "better")
    assert careful.fused == plain.fused


def test_by_a_metric_alone_the_best_member_is_saved_at_last(place: Path) -> None:
    def metric(llama: Llama) -> list[float]:
        return [-loss.nats for loss in near("b")(llama)]

    result = fuse(list("abc"), out="out", weights="1,1,1", metrics={"like b": metric}, never_worse=True)
    assert (result.saved, result.best_member, result.verdict) == ("best member", "b", "equal")
    assert Path("out/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_the_greedy_soup_can_be_what_is_saved(place: Path) -> None:
    result = run(weights="1,0,0", never_worse=True)
    assert result.saved == "greedy soup"
    assert result.verdict == "better"
    assert torch.tensor([member.weight or 0.0 for member in result.members]).count_nonzero() > 1
