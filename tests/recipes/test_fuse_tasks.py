"""Fusions over several tasks, by functions and metrics that are handed in, from files, and in what they save."""

import json
import math
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.units import halve
from lamoid.recipes import fusion_candidates
from lamoid.recipes.fuse import fuse, run_fusion
from lamoid.recipes.fusion_recipe import Filtered, FusionRecipe, MemberTable, Setting
from lamoid.recipes.fusion_statistics import statistics
from lamoid.recipes.fusion_tasks import HandedTask
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

TEXTS = [f"document {n}: the {('quick', 'lazy', 'sly')[n % 3]} fox jumps over {n * 7} dogs.\n" for n in range(60)]
OTHERS = [f"{n * n} is the square of {n}, said {('she', 'he', 'it')[n % 3]}; so it is.\n" for n in range(40)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members around a base, the last far from it, and texts of two kinds."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([*TEXTS, *OTHERS], vocab=280)
    for index, noise in enumerate((0.0, 0.02, 0.05, 0.4)):
        model = LanguageModel(Shape(width=16, layers=2, heads=2, context=32).spec(tokenizer.vocab))
        initialise(model, 0, deviation=0.2)
        generator = torch.Generator().manual_seed(index)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise)
        Llama(model, tokenizer).save(folder / ("base" if index == 0 else "abc"[index - 1]))
    for name, texts in (("foxes", TEXTS), ("squares", OTHERS)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return folder


@pytest.fixture
def place(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the models, which is also the working folder."""
    shutil.copytree(models, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def mean_loss(llama: Llama, texts: list[str]) -> float:
    losses = [llama.loss(text) for text in texts]
    return sum(loss.nats for loss in losses) / sum(loss.tokens for loss in losses)


def whole(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def distance_to(name: str) -> Callable[[Llama], list[Loss]]:
    """Give a loss, alike for 40 examples, that is the smaller the nearer a model lies to ``name``."""
    target = lamoid.load(name).model.state_dict()

    def losses(llama: Llama) -> list[Loss]:
        parts = llama.model.state_dict()
        apart = math.sqrt(sum(float((parts[key].double() - target[key].double()).square().sum()) for key in parts))
        return [Loss(apart * (1.0 + 0.001 * n), 1, 1) for n in range(40)]

    return losses


def test_tasks_count_by_their_shares(place: Path) -> None:
    result = fuse(list("abc"), task=["foxes=foxes.jsonl", "squares:3=squares.jsonl"], out="out", base="base", tau=0.5)
    halves = {"foxes": halve(TEXTS, name=""), "squares": halve(OTHERS, name="")}
    shares = {"foxes": 0.25, "squares": 0.75}
    loaded = {name: lamoid.load(name) for name in ("a", "b", "c", "base", "out")}
    expected = {
        name: [sum(shares[task] * mean_loss(llama, halves[task][half]) for task in shares) for half in (0, 1)]
        for name, llama in loaded.items()
    }
    powers = [math.exp(-expected[name][0] / 0.5) for name in "abc"]
    for member, power in zip(result.members, powers, strict=True):
        assert member.nats_per_token == pytest.approx(expected[member.path][0], rel=1e-6)
        assert member.judged == pytest.approx(expected[member.path][1], rel=1e-6)
        assert member.weight == pytest.approx(power / sum(powers), rel=1e-5)
    assert result.fused is not None
    assert result.fused.judged == pytest.approx(expected["out"][1], rel=1e-6)
    assert result.best_member == min("abc", key=lambda name: expected[name][1])
    for task in result.tasks:
        assert task.weight == shares[task.name]
        assert task.units == len(halves[task.name][1])
        for row in task.judged:
            if row.model in loaded:
                assert row.value == pytest.approx(mean_loss(loaded[row.model], halves[task.name][1]), rel=1e-6)
    assert {report.metric for report in result.reports} >= {"nats_per_token of foxes", "bits_per_byte of squares"}


def test_every_comparison_is_the_difference_of_its_two_figures(place: Path) -> None:
    result = fuse(list("abc"), on="foxes.jsonl", out="out", base="base")
    figures = {model.path: model.judged for _, model in result.models()}
    assert result.fused is not None
    assert result.fused.judged is not None
    assert {each.other for each in result.comparisons} == {"a", "b", "c", "base", "uniform"}
    for each in result.comparisons:
        assert each.difference == pytest.approx(result.fused.judged - (figures[each.other] or 0.0), abs=1e-12)
        assert each.interval is not None
        low, high = each.interval
        assert low <= each.difference <= high
        assert each.verdict == ("better" if high < 0 else "worse" if low > 0 else "equal")


def test_a_handed_task_gives_what_its_text_gives(place: Path) -> None:
    measuring, judging = halve(TEXTS, name="")
    handed = HandedTask("foxes", lambda x: [x.loss(t) for t in measuring], lambda x: [x.loss(t) for t in judging])
    ours = fuse(list("ab"), task=[handed], out="ours", tau=0.1)
    theirs = fuse(list("ab"), on="foxes.jsonl", out="theirs", tau=0.1)
    assert [m.nats_per_token for m in ours.members] == pytest.approx([m.nats_per_token for m in theirs.members])
    assert ours.difference == pytest.approx(theirs.difference, rel=1e-3)
    assert ours.difference_interval == pytest.approx(theirs.difference_interval, rel=1e-2)


def test_metrics_are_means_with_a_verdict_of_their_own(place: Path) -> None:
    calls: list[str] = []

    def near(name: str) -> Callable[[Llama], list[float]]:
        def scores(llama: Llama) -> list[float]:
            calls.append(llama.name)
            return [-loss.nats for loss in distance_to(name)(llama)]

        return scores

    result = fuse(
        list("ac"), on="foxes.jsonl", out="out", weights="1,3", metrics={"like c": near("c"), "like b": near("b")}
    )
    like_c, like_b = result.metrics
    assert (like_c.verdict, like_c.best_member, like_c.units) == ("worse", "c", 40)
    assert (like_b.verdict, like_b.best_member) == ("worse", "a")
    for metric, name in ((like_c, "c"), (like_b, "b")):
        values = {row.model: row.value for row in metric.judged}
        for model in ("a", "c", "out"):
            scores = [-loss.nats for loss in distance_to(name)(lamoid.load(model))]
            assert values[model] == pytest.approx(sum(scores) / 40, rel=1e-6)
    assert set(calls) == {"a", "c", "uniform", "fused"}
    assert {"fusion.png", "metrics.png"} <= set(whole("out"))
    alone = fuse(list("ac"), out="alone", weights="3,1", metrics={"like b": near("b")})
    assert {"metrics.png", "weights.png"} <= set(whole("alone"))
    assert "fusion.png" not in whole("alone")
    assert (alone.verdict, alone.best_member, alone.fused) == (alone.metrics[0].verdict, "a", None)


def test_mixtures_in_memory_and_beside_give_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = fuse(list("abc"), on="foxes.jsonl", out="out", base="base", between=True)
    inside = whole("out")
    monkeypatch.setattr(fusion_candidates, "memory_beside", lambda plan: None)
    written = fuse(list("abc"), on="foxes.jsonl", out="out", base="base", between=True, overwrite=True)
    assert held.mixtures == written.mixtures
    assert (held.uniform, held.fused) == (written.uniform, written.fused)
    both = whole("out")
    assert [name for name in both if both[name] != inside.get(name)] == ["README.md", "fusion.json", "manifest.json"]
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == []


def test_what_lies_between_members_is_measured_and_drawn(place: Path) -> None:
    result = fuse(list("ac"), on="foxes.jsonl", out="out", between=True, weights="uniform")
    measuring, _ = halve(TEXTS, name="")
    assert len(result.mixtures) == 11
    parts = [lamoid.load(name).model.state_dict() for name in "ac"]
    llama = lamoid.load("a")
    for weights, loss in result.mixtures:
        mixed = {key: sum(w * part[key] for w, part in zip(weights, parts, strict=True)) for key in parts[0]}
        llama.model.load_state_dict(mixed)
        assert loss == pytest.approx(mean_loss(llama, measuring), rel=1e-5)
    assert {"fusion.png", "weights.png", "between.png"} <= set(whole("out"))
    assert len(fuse(list("abc"), on="foxes.jsonl", out="three", between=True).mixtures) == 21


def test_the_same_recipe_gives_the_same_bytes_and_so_does_what_it_saves(place: Path) -> None:
    text = (
        'rule = "linear"\ntau = 0.5\n[[members]]\nmodel = "a"\n[[members]]\nmodel = "middle"\n'
        '[[tasks]]\nname = "foxes"\non = "foxes.jsonl"\n'
        '[[steps]]\nname = "middle"\nmembers = [{model = "b", weight = 0.25}, {model = "c", weight = 0.75}]\n'
    )
    Path("recipe.toml").write_text(text)
    first = fuse(["recipe.toml"], out="out")
    before = whole("out")
    second = fuse(["recipe.toml"], out="out", overwrite=True)
    assert [member.path for member in first.members] == ["a", "middle"]
    assert msgspec.json.encode(first.members) == msgspec.json.encode(second.members)
    after = whole("out")
    assert [name for name in before if before[name] != after[name]] == ["README.md", "fusion.json", "manifest.json"]
    said = json.loads(before["fusion.json"]), json.loads(after["fusion.json"])
    for tree in said:
        for report in tree["reports"]:
            report["command"] = report["command"].replace("--overwrite ", "")
    assert said[0] == said[1]
    fuse(["out/fusion.toml"], out="again")
    assert whole("again")["model.safetensors"] == before["model.safetensors"]
    assert tomllib.loads(whole("again")["fusion.toml"].decode()) == tomllib.loads(before["fusion.toml"].decode())


def test_words_go_over_a_file(place: Path) -> None:
    Path("recipe.toml").write_text('weights = "uniform"\nmembers = [{model = "a"}, {model = "b"}]\n')
    result = fuse(["recipe.toml"], on="foxes.jsonl", weights="1,3", out="out", dtype="bfloat16")
    assert [member.weight for member in result.members] == [0.25, 0.75]
    stored = load_file("out/model.safetensors")
    parts = [load_file(f"{name}/model.safetensors") for name in "ab"]
    for name, tensor in stored.items():
        assert tensor.dtype == torch.bfloat16
        exact = 0.25 * parts[0][name].double() + 0.75 * parts[1][name].double()
        assert torch.equal(tensor, exact.float().bfloat16()) or torch.allclose(tensor.double(), exact, rtol=2**-8)
    assert json.loads(Path("out/config.json").read_text()).get("dtype") == "bfloat16"


def test_weights_may_change_from_tensor_to_tensor(place: Path) -> None:
    by_name: Setting = [Filtered(1.0, "mlp"), Filtered(0.0)]
    other: Setting = [Filtered(0.0, "mlp"), Filtered(1.0)]
    recipe = FusionRecipe("out", [MemberTable("a", by_name), MemberTable("b", other)], weights="given")
    result = run_fusion(recipe)
    assert [member.weight for member in result.members] == [None, None]
    fused, a, b = (load_file(f"{name}/model.safetensors") for name in ("out", "a", "b"))
    assert any("mlp" in name for name in fused)
    for name, tensor in fused.items():
        assert torch.equal(tensor, (a if "mlp" in name else b)[name])


def test_the_card_says_what_was_done(place: Path) -> None:
    Path("a").rename("a|<b>")
    result = fuse(["a|<b>", "b"], on="foxes.jsonl", out="out", base="base")
    card = Path("out/README.md").read_text()
    assert f"Verdict beside the best member: {result.verdict}" in card
    assert "a\\|&lt;b>" in card
    for name in ("fusion.png", "weights.png"):
        assert f"![{name}]({name})" in card
    for member in result.members:
        assert f"{member.judged:.4f}" in card
        assert len(member.hash or "") == 64
    assert "lamoid fuse --on=foxes.jsonl" in card


def test_looking_only_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.iterdir())
    assert run(["fuse", "a", "b", "--out", "out", "--check"]) == 0
    assert "The members match." in capsys.readouterr().out
    assert run(["fuse", "a", "b", "--check"]) == 0
    assert sorted(place.iterdir()) == before


def test_looking_answers_by_the_status_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Llama(LanguageModel(Shape(width=16, layers=9, heads=2, context=16).spec(300))).save("other")
    capsys.readouterr()
    assert run(["fuse", "a", "other", "--check", "--json"]) == 2
    checked = json.loads(capsys.readouterr().out)["checked"]
    assert not checked["matches"]
    assert len(checked["differences"]) == 20
    assert run(["fuse", "a", "other", "--check"]) == 2
    assert f"and {checked['unlisted']} more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b", "c", "--rule", "slerp", "--base", "base", "--set", "t=0.5"], "members: are 3, slerp takes 1"),
        (["a", "b", "--rule", "ties"], "base: is not given, which ties needs"),
        (["a", "b", "--dtype", "int3"], "dtype: is 'int3'"),
        (["a", "b", "--tau", "0"], "tau: is 0"),
        (["a", "b", "--base", "base", "--rule", "ties", "--set", "density=2"], "density is 2"),
        (["a", "b", "--out", "a"], "the output is a, which is read"),
    ],
)
def test_looking_refuses_what_fusing_would_refuse(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(["fuse", *words, "--check"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"out": None}, "out: is not given"),
        ({"task": ["foxes"]}, "task: is 'foxes'"),
        ({"task": ["foxes:0=foxes.jsonl"]}, "task: is 'foxes:0=foxes.jsonl'"),
        ({"task": ["foxes:x=foxes.jsonl"]}, "task: is 'foxes:x=foxes.jsonl'"),
        ({"task": ["x=foxes.jsonl", "x=squares.jsonl"], "on": None}, "task: 'x' stands twice"),
        ({"set": ["normalize"]}, "set: is 'normalize'"),
        ({"set": ["density=1979-05-27"]}, "set: density"),
        ({"set": ["nothing=1"]}, "options.nothing: is no option of this rule"),
        ({"tau": "x"}, "tau: is 'x'"),
        ({"weights": "best"}, "weights: 'best' is no list of numbers"),
        ({"weights": "greedy", "on": None}, "on: is not given, which weights needs"),
        ({"weights": "1,1", "on": None, "never_worse": True}, "on: is not given, which never_worse needs"),
        ({"weights": "1,1", "on": None, "between": True}, "on: is not given, which between needs"),
        ({"members": list("abca"), "between": True}, "between: is asked for 4 members"),
        ({"workers": 0}, "workers: is 0"),
        ({"budget": 0}, "budget: is 0"),
        ({"members": ["none.toml"]}, "none.toml"),
        ({"shard_size": "x"}, "shard_size: is 'x'"),
        ({"seed": -1}, "seed: is -1"),
        ({"rule": "tie"}, "rule: is 'tie'. Did you mean ties? Choose one of linear"),
        ({"members": ["again.toml", "a"]}, "again.toml: is a recipe, and stands beside other members"),
        ({"weights": "uniform", "tau": 0.1}, "tau: is given, and weights 'uniform' take none"),
        ({"weights": "search", "rule": "model_stock", "base": "base"}, "model_stock takes none"),
        ({"weights": "1,1", "statistics": ["a", "b"]}, "statistics: are given, and linear asks for none"),
        ({"members": ["a"], "base": "b", "rule": "slerp"}, "options.t: is not given, and this rule needs it"),
    ],
)
def test_what_cannot_be_used_is_refused(place: Path, options: dict[str, Any], culprit: str) -> None:
    before = sorted(place.iterdir())
    arguments = {"members": ["a", "b"], "on": "foxes.jsonl", "out": "out", **options}
    with pytest.raises(InputError) as caught:
        fuse(arguments.pop("members"), **arguments)
    assert culprit in str(caught.value)
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("rule", ["nuslerp", "task_arithmetic", "ties", "dare_ties", "della", "breadcrumbs"])
def test_what_is_measured_is_what_is_saved_by_every_kind_of_rule(place: Path, rule: str) -> None:
    arguments: dict[str, Any] = {"base": "base", "rule": rule, "weights": "0.5,0.5", "between": True, "seed": 3}
    result = fuse(["a", "c"], on="foxes.jsonl", out="out", **arguments)
    measuring, judging = halve(TEXTS, name="")
    losses = {tuple(weights): loss for weights, loss in result.mixtures}
    saved = lamoid.load("out")
    assert losses[0.5, 0.5] == pytest.approx(mean_loss(saved, measuring), rel=1e-6)
    assert result.fused is not None
    assert result.fused.judged == pytest.approx(mean_loss(saved, judging), rel=1e-6)
    assert len({round(loss, 6) for loss in losses.values()}) > 3


def test_a_search_says_whether_it_has_seen_the_judging_text(place: Path) -> None:
    apart = fuse(["a", "c"], on="foxes.jsonl", judge="squares.jsonl", out="apart", weights="greedy")
    seen = fuse(["a", "c"], on="foxes.jsonl", judge="foxes.jsonl", out="seen", weights="greedy")
    assert [("text that the search has not seen" in " ".join(each.notes)) for each in (apart, seen)] == [True, False]
    assert "the verdict is in part on text that it has seen" in Path("seen/README.md").read_text()


def test_rules_say_what_they_need(place: Path) -> None:
    with pytest.raises(InputError, match="base: is not given, which ties needs"):
        fuse(["a", "b"], out="out", rule="ties", weights="1,1")
    with pytest.raises(InputError, match="members: are 3, nuslerp takes 2"):
        fuse(list("abc"), out="out", rule="nuslerp", weights="1,1,1")
    with pytest.raises(InputError, match="weights: are given, and model_stock takes none"):
        fuse(list("abc"), out="out", rule="model_stock", weights="1,1,1", base="base")
    with pytest.raises(InputError, match="density"):
        fuse(list("ab"), out="out", rule="ties", weights="1,1", base="base", set=["density=0"])
    result = fuse(list("abc"), out="out", rule="model_stock", base="base")
    assert [member.weight for member in result.members] == [None] * 3


@pytest.mark.parametrize(("rule", "kind"), [("fisher", "fisher"), ("regmean", "gram")])
def test_statistics_are_measured_where_they_are_not_given(place: Path, rule: str, kind: str) -> None:
    measuring, _ = halve(TEXTS, name="")
    Path("measuring.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in measuring))
    folders = [f"statistics-{name}" for name in "ac"]
    for name, folder in zip("ac", folders, strict=True):
        statistics(Path(name), on="measuring.jsonl", out=Path(folder), kind=kind)
    with pytest.raises(InputError, match=rf"members\[0\]\.statistics: is not given, which {rule} needs"):
        fuse(list("ac"), out="out", rule=rule, weights="1,1")
    fuse(list("ac"), out="given", rule=rule, weights="1,1", statistics=folders)
    fuse(list("ac"), out="measured", rule=rule, weights="1,1", on="foxes.jsonl")
    fuse(list("ac"), out="mean", weights="1,1")
    assert whole("given")["model.safetensors"] == whole("measured")["model.safetensors"]
    assert whole("given")["model.safetensors"] != whole("mean")["model.safetensors"]
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []
    fuse(["given/fusion.toml"], out="again")
    assert whole("again")["model.safetensors"] == whole("given")["model.safetensors"]


def test_statistics_of_another_kind_are_refused(place: Path) -> None:
    statistics(Path("a"), on="foxes.jsonl", out=Path("gram"), kind="gram")
    with pytest.raises(InputError, match="which is no fisher of the tensor in a"):
        fuse(list("ac"), out="out", rule="fisher", weights="1,1", statistics=["gram", "gram"])
    with pytest.raises(InputError, match="statistics: are 1 for 2 members"):
        fuse(list("ac"), out="out", rule="fisher", weights="1,1", statistics=["gram"])
