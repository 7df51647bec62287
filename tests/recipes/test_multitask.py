"""The multitask command: what it learns, saves, reports, refuses, and goes on with bit for bit."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from lamoid.assembly.group import read_group
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes.multitask import measure, multitask
from lamoid.training.loop import train_loop
from lamoid.weights.folder import load_model, open_folder

GOOD, BAD = ["good", "fine", "great", "lovely", "nice"], ["bad", "awful", "poor", "dull", "ugly"]


def write_texts(folder: Path) -> None:
    for name, seed in (("films", 1), ("books", 2)):
        rng = random.Random(seed)
        lines = ["text\tlabel"]
        for number in range(200):
            is_good = rng.random() < 0.5
            lines.append(f"{name} {number} {rng.choice(GOOD if is_good else BAD)}\t{'pos' if is_good else 'neg'}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "tales").mkdir()
    for number in range(20):
        (folder / "tales" / f"{number}.txt").write_text(f"Once upon a time there were {number} lamas. " * 3)


def make_recipe(folder: Path, **changes: Any) -> Path:
    """Write a recipe beside its texts; ``None`` takes a key away."""
    tree: dict[str, Any] = {
        "steps": 12,
        "batch": 8,
        "seed": 1,
        "log_every": 4,
        "model": {"width": 16, "layers": 2, "heads": 2, "context": 32},
        "tokenizer": {"kind": "bytes", "vocab": 300},
        "optimizer": {"learning_rate": 5e-3},
        "tasks": {name: {"train": f"{name}.tsv", "hold_out": 0.25} for name in ("films", "books")},
        "sharing": [{"paths": ["*.embedding"]}],
        **changes,
    }
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps({key: value for key, value in tree.items() if value is not None}))
    return path


DYNAMIC = {
    "moves": [
        {"kind": "tie", "step": 3, "paths": ["*.blocks"]},
        {"kind": "untie", "step": 9, "paths": ["*.blocks"]},
    ],
    "soft": [{"paths": ["*.norm", "*.blocks.0"][:1], "strength": 0.1}],
    "evaluate_every": 4,
    "checkpoint": {"every": 2},
}


def test_words_that_say_the_label_are_learned_and_everything_is_reported(tmp_path: Path) -> None:
    write_texts(tmp_path)
    sharing = [{"paths": [f"*.{part}"]} for part in ("embedding", "blocks", "norm", "heads.classes")]
    path = make_recipe(tmp_path, steps=60, sharing=sharing)
    result = multitask(path, out=tmp_path / "run")
    assert [task.task for task in result.tasks] == ["films", "books"]
    assert result.apart == 2 * result.parameters == 2 * result.tasks[0].parameters
    for task in result.tasks:
        assert task.accuracy is not None
        assert task.most_frequent is not None
        assert task.interval is not None
        assert task.interval[0] <= task.accuracy <= task.interval[1]
        assert task.accuracy > 0.9 > task.most_frequent >= 0.5
        assert task.loss < 0.4
    assert result.steps * 2 * 8 * 4 < result.tokens < result.steps * 2 * 8 * 32
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["films.loss"] for line in lines if "films.loss" in line]
    assert losses[-1] < losses[0]
    assert lines[-1]["films.accuracy"] == pytest.approx(result.tasks[0].accuracy)
    text = "\n".join(result.lines())
    assert "films" in text
    assert f"{result.parameters:,} parameters" in text


def test_each_model_is_a_folder_that_answers_as_reported(tmp_path: Path) -> None:
    write_texts(tmp_path)
    result = multitask(make_recipe(tmp_path, **DYNAMIC), out=tmp_path / "run")
    assert [move.kind for move in result.moves] == ["tie", "untie"]
    assert result.moves[1].loss_before == result.moves[1].loss_after
    assert read_group(tmp_path / "run" / "group.json").parameters() == result.parameters
    from lamoid.recipes.multitask import assemble
    from lamoid.recipes.multitask_recipe import read_multitask

    data = assemble(read_multitask(tmp_path / "recipe.toml"), tmp_path / "run").data
    for task in result.tasks:
        model = load_model(open_folder(task.model))
        loss, right = measure(model, data[task.task].test)
        assert right is not None
        assert loss == pytest.approx(task.loss, rel=1e-6)
        assert right.double().mean().item() == task.accuracy


def test_a_task_may_say_its_next_tokens(tmp_path: Path) -> None:
    write_texts(tmp_path)
    tasks = {
        "films": {"train": "films.tsv"},
        "tales": {"train": "tales", "objective": "causal", "weight": 0.5},
    }
    result = multitask(make_recipe(tmp_path, tasks=tasks, mode="in_turn"), out=tmp_path / "run")
    assert result.tasks[1].accuracy is None
    assert result.tasks[1].classes == 0
    assert run(["generate", result.tasks[1].model, "--prompt", "Once", "--max-tokens", "2"]) == 0


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(state: Any, batches: Any, objective: Any, update: Any, hooks: Any) -> None:
        def stop(state: Any) -> None:
            if state.step == step:
                raise KeyboardInterrupt

        train_loop(state, batches, objective, update, [*hooks, (1, stop)])

    monkeypatch.setattr("lamoid.recipes.multitask.train_loop", stopping)


@pytest.mark.parametrize("step", [2, 7, 10])
def test_a_resumed_run_ends_bitwise_alike(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path)
    path = make_recipe(tmp_path, **DYNAMIC)
    whole = multitask(path, out=tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(step, patched)
        with pytest.raises(KeyboardInterrupt):
            multitask(path, out=tmp_path / "cut")
    again = multitask(path, out=tmp_path / "cut", resume=True)
    assert again.resumed_from == step - step % 2
    assert [(task.loss, task.accuracy) for task in again.tasks] == [(task.loss, task.accuracy) for task in whole.tasks]
    assert [move.step for move in again.moves] == [3, 9]
    for name in ("models/films/model.safetensors", "models/books/model.safetensors", "group.json", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert multitask(path, out=tmp_path / "cut", resume=True) == again
    changed = make_recipe(tmp_path, **{**DYNAMIC, "seed": 2})
    with pytest.raises(InputError, match="the run was made with other settings: seed"):
        multitask(changed, out=tmp_path / "cut", resume=True)


WRONG = {
    "unknown key": ({"stepps": 3}, "stepps", "has no such field"),
    "no steps": ({"steps": None}, "steps", "is missing"),
    "a path that matches nothing": ({"sharing": [{"paths": ["*.embeding"]}]}, "sharing.0.paths", "matches no module"),
    "two rules on one tensor": (
        {"sharing": [{"paths": ["*.blocks"]}, {"paths": ["*.blocks.0"]}]},
        "sharing.1",
        "falls under the rule sharing.0",
    ),
    "a circle": ({"sharing": [{"paths": ["films", "films.blocks"]}]}, "sharing.0.paths", "circle"),
    "unlike modules": ({"sharing": [{"paths": ["films.embedding", "books.norm"]}]}, "sharing.0", "is not there"),
    "a move too late": ({"moves": [{"kind": "tie", "step": 12, "paths": ["*.norm"]}]}, "moves[0].step", "not less"),
    "a move of no kind": ({"moves": [{"kind": "glue", "step": 1, "paths": ["*.norm"]}]}, "moves[0].kind", "not known"),
    "an untie of no rule": ({"moves": [{"kind": "untie", "step": 1, "paths": ["*.norm"]}]}, "moves[0]", "no rule"),
    "a soft tie of nothing": ({"soft": [{"paths": ["*.x"]}]}, "soft[0].paths", "matches no module"),
    "a soft tie without strength": ({"soft": [{"paths": ["*.norm"], "strength": 0.0}]}, "soft[0].strength", "above 0"),
    "infinite": ({"soft": [{"paths": ["*.norm"], "tau": float("inf")}]}, "soft[0].tau", "finite"),
    "no tasks": ({"tasks": {}}, "tasks", "are none"),
    "a name that is taken": ({"tasks": {"keys": {"train": "films.tsv"}}}, "models", "taken"),
    "a file that is not there": ({"tasks": {"films": {"train": "no.tsv"}}}, "no.tsv", "opened"),
    "nothing held out": ({"tasks": {"films": {"train": "films.tsv", "hold_out": 1e-9}}}, "films.hold_out", "nothing"),
    "a context too long": ({"context": 64}, "context", "the model's context is 32"),
    "too long a warm-up": ({"schedule": {"warmup": 12}}, "schedule.warmup", "not less than steps"),
    "betas of three": ({"optimizer": {"betas": [0.9, 0.9, 0.9]}}, "optimizer.betas", "3 entries"),
    "a mode of no sense": ({"mode": "both"}, "mode", "choose one of mixed, in_turn"),
    "a wrong width": ({"model": {"width": 0}}, "model.width", "must lie"),
}


@pytest.mark.parametrize(("changes", "culprit", "problem"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_named_and_nothing_is_left(
    changes: dict, culprit: str, problem: str, tmp_path: Path
) -> None:
    write_texts(tmp_path)
    path = make_recipe(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        multitask(path, out=tmp_path / "run")
    assert culprit in caught.value.culprit
    assert problem.lower() in str(caught.value).lower()
    assert not (tmp_path / "run").exists()


def test_a_causal_task_refuses_a_model_that_sees_later_tokens(tmp_path: Path) -> None:
    write_texts(tmp_path)
    (tmp_path / "spec.toml").write_text(
        """
width = 16
vocab = 300
context = 32
heads.classes = {kind = "classes", count = 2}
[[blocks]]
mixer = {kind = "attention", heads = 2, head_width = 8, sees = "bidirectional"}
feedforward = {kind = "gated", hidden = 24}
"""
    )
    model = {"spec": "spec.toml"}
    films = {"films": {"train": "films.tsv"}}
    assert multitask(make_recipe(tmp_path, model=model, sharing=None, tasks=films), out=tmp_path / "run").steps == 12
    tasks = {**films, "tales": {"train": "tales", "objective": "causal"}}
    with pytest.raises(InputError, match="sees later tokens"):
        multitask(make_recipe(tmp_path, model=model, tasks=tasks), out=tmp_path / "other")
    small = {**model, "spec": "small.toml"}
    (tmp_path / "small.toml").write_text((tmp_path / "spec.toml").read_text().replace("300", "270"))
    with pytest.raises(InputError, match="has 300 tokens, the model's vocab is 270"):
        multitask(make_recipe(tmp_path, model=small, tasks=films, sharing=None), out=tmp_path / "other")


def test_the_command_prints_json_and_shows_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_texts(tmp_path)
    path = make_recipe(tmp_path)
    torch.manual_seed(7)
    assert run(["multitask", str(path), "--out", str(tmp_path / "run"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((tmp_path / "run" / "result.json").read_text())
    assert "training: 12/12 steps" in captured.err
    assert run(["multitask", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "holds something already" in capsys.readouterr().err
