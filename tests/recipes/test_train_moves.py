"""Training with moves: made by step, told in log and result, refused before the start, and resumed bit for bit."""

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.spec import ModelSpec, encode_toml
from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.train import train
from lamoid.recipes.training_moves import plan_moves
from lamoid.training.meter import MEASURED
from lamoid.weights.folder import load_model, open_folder

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 60
BLOCK = BlockSpec(AttentionSpec(heads=4, kv_heads=2, head_width=4), GatedSpec(hidden=24))
SPEC = ModelSpec(
    width=16, vocab=40, context=16, blocks=(BLOCK, BLOCK), heads={"next_token": NextTokenSpec(linear=TiedSpec())}
)
EVERY_KIND: list[dict[str, Any]] = [
    {"step": 2, "kind": "widen", "path": "blocks.*.feedforward", "hidden": 32},
    {"step": 4, "kind": "insert", "path": "blocks.1"},
    {"step": 4, "kind": "kv_heads", "path": "blocks.*.mixer", "kv_heads": 4},
    {"step": 5, "kind": "tie", "paths": ["blocks.0.mixer", "blocks.2.mixer"]},
    {"step": 6, "kind": "experts", "path": "blocks.1.feedforward", "experts": 2, "chosen": 1},
    {"step": 7, "kind": "add_expert", "path": "blocks.1.feedforward", "over": 4, "below": 20.0},
    {"step": 8, "kind": "insert", "path": "blocks.0"},
    {"step": 9, "kind": "untie", "path": "sharing.0"},
    {"step": 9, "kind": "replace", "path": "blocks.3.mixer", "spec": {"kind": "lstm", "hidden": 16}},
    {"step": 10, "kind": "untie", "path": "heads.next_token"},
    {"step": 10, "kind": "replace", "path": "norm", "spec": "layer_norm"},
]


@pytest.fixture
def recipe(tmp_path: Path) -> dict:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "model.toml").write_bytes(encode_toml(SPEC))
    return {
        "seed": 1,
        "model": {"spec": str(tmp_path / "model.toml")},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 14, "batch": 4},
        "optimizer": {"kind": "muon", "learning_rate": 0.02},
        "schedule": {"warmup": 2},
        "evaluation": {"every": 4, "keep_best": True},
        "checkpoint": {"every": 2},
        "log": {"every": 2, "tensorboard": False, "curve": False},
        "moves": EVERY_KIND,
    }


def lines(out: Path) -> list[dict[str, Any]]:
    """Read the logged lines, without what a clock measured."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in found]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Kill(Progress):
    """Ends the process's work when a figure of this step or a later one is told."""

    def __init__(self, at: int) -> None:
        super().__init__(io.StringIO())
        self.at, self.steps = at, 0

    def advance(self, n: float = 1, **figures: float | str) -> None:
        if "loss" in figures:
            self.steps += int(n)
            if self.steps >= self.at:
                raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", [{"kind": "adamw"}, {"kind": "muon", "learning_rate": 0.02}])
def test_a_run_with_every_kind_of_move_goes_on_bit_for_bit(recipe: dict, tmp_path: Path, optimizer: dict) -> None:
    recipe["optimizer"] = optimizer
    shown = io.StringIO()
    whole = train(recipe, out=tmp_path / "whole", progress=Progress(shown, interval=0.0))
    for at in (4, 8, 10):
        out = tmp_path / f"parted{at}"
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=out, progress=Kill(at))
        resumed = train(recipe, out=out, resume=True)
        assert 0 < resumed.resumed_from <= at
        for part in ("model", "best", "checkpoints/step-00000014"):
            ours, theirs = contents(tmp_path / "whole" / part), contents(out / part)
            assert ours.keys() == theirs.keys()
            different = [name for name in ours if ours[name] != theirs[name]]
            assert different in ([], ["manifest.json", "state.json"]), part  # the state says how long it took
        assert lines(out) == lines(tmp_path / "whole")
        assert resumed.moves == whole.moves
    assert [move.kind for move in whole.moves] == [move["kind"] for move in EVERY_KIND]
    told = [line["move"] for line in lines(tmp_path / "whole") if "move" in line]
    assert [(move["step"], move["kind"]) for move in told] == [(move["step"], move["kind"]) for move in EVERY_KIND]
    for move in whole.moves:
        assert move.line() in shown.getvalue()
        assert move.line() in whole.lines()
        if move.is_preserving:
            assert move.loss_after == pytest.approx(move.loss_before, abs=1e-5)
    assert {move.kind for move in whole.moves if not move.is_preserving} == {"tie", "replace"}
    model = load_model(open_folder(whole.model))
    assert whole.parameters == whole.moves[-1].parameters == sum(tensor.numel() for tensor in model.parameters())
    assert [len(getattr(block.feedforward, "experts", ())) for block in model.spec.blocks] == [0, 0, 3, 0]  # type: ignore[union-attr]
    bias = model.get_parameter("blocks.2.feedforward.router.bias")
    assert (bias[:2].mean() - bias[2]).abs() < 1, "raised until step 11, the insertion before it notwithstanding"


def test_plain_moves_are_measured_before_and_after(recipe: dict, tmp_path: Path) -> None:
    recipe["moves"] = [{"step": 8, "kind": "replace", "path": "blocks.1.mixer", "spec": {"kind": "gru", "hidden": 8}}]
    result = train(recipe, out=tmp_path / "run")
    [move] = result.moves
    at = {line["step"]: line["validation_loss"] for line in lines(tmp_path / "run") if "validation_loss" in line}
    assert move.loss_after == pytest.approx(at[8], rel=1e-5), "an evaluation at a move's step is of the new model"
    assert move.loss_before != move.loss_after


def test_a_grown_llama_is_one_for_transformers(recipe: dict, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    recipe["model"] = {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16}
    recipe["moves"] = [{"step": 5, "kind": "insert", "path": "blocks.1"}]
    result = train(recipe, out=tmp_path / "run")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(result.model)
    assert theirs.config.num_hidden_layers == 2
    ids = torch.arange(8)[None]
    ours = load_model(open_folder(result.model))(ids)
    torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_run_of_before_there_were_moves_goes_on(recipe: dict, tmp_path: Path) -> None:
    del recipe["moves"]
    train(recipe, out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    path = tmp_path / "run" / "recipe.toml"
    tree = tomllib.loads(path.read_text())
    del tree["moves"]
    path.write_text(tomli_w.dumps(tree))
    assert train(recipe, out=tmp_path / "run", resume=True).resumed_from == 14
    recipe["moves"] = EVERY_KIND
    with pytest.raises(InputError, match="other settings: moves"):
        train(recipe, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ([{"step": 4, "kind": "insrt", "path": "blocks.1"}], r"moves\[0\].kind: invalid .* one of .*insert"),
        ([{"step": 4, "kind": "insert", "path": "blocks.9"}], r"moves\.0: blocks\.9: names no place"),
        ([{"step": 4, "kind": "insert"}], r"moves\[0\]\.path: is missing"),
        (
            [{"step": 14, "kind": "insert", "path": "blocks.1"}],
            r"moves\.0\.step: is 14, not less than training.steps 14",
        ),
        ([{"step": 0, "kind": "insert", "path": "blocks.1"}], r"moves.*step: is 0, must lie from 1"),
        ([{"step": 4, "kind": "widen", "path": "blocks.0.feedforward"}], r"moves\[0\]\.hidden: is missing"),
        ([{"step": 4, "kind": "insert", "path": "blocks.1", "hiden": 4}], r"moves\[0\]\.hiden: is no key"),
        (
            [
                {"step": 8, "kind": "kv_heads", "path": "blocks.2.mixer", "kv_heads": 4},
                {"step": 9, "kind": "insert", "path": "blocks.0"},
            ],
            r"moves\.0: .*has no part '2'",
        ),
        ([{"step": 4, "kind": "replace", "path": "norm", "spec": {"kind": "lyer_norm"}}], "the nearest is layer_norm"),
        ([{"step": 4, "kind": "insert", "path": "blocks.0", "block": {"mixer": 3}}], r"moves\.0: block: mixer: is 3"),
        (
            [
                {"step": 4, "kind": "experts", "path": "blocks.0.feedforward", "experts": 2},
                {"step": 5, "kind": "add_expert", "path": "blocks.0.feedforward", "over": 10},
            ],
            r"moves\.1\.over: is 10, so the gate would still rise at step 15 of 14",
        ),
        ([{"step": 4, "kind": "replace", "path": "context", "spec": "8"}], r"moves\.0: replace: context: is '8'"),
    ],
)
def test_moves_that_cannot_be_made_are_refused_before_anything_is_written(
    recipe: dict, tmp_path: Path, moves: list, message: str
) -> None:
    recipe["moves"] = moves
    with pytest.raises(InputError, match=message):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_plan_follows_gates_through_later_moves_and_averages_the_work(recipe: dict) -> None:
    recipe["moves"] = [
        {"step": 2, "kind": "experts", "path": "blocks.1.feedforward", "experts": 2},
        {"step": 4, "kind": "add_expert", "path": "blocks.1.feedforward", "over": 8},
        {"step": 6, "kind": "insert", "path": "blocks.0"},
        {"step": 8, "kind": "add_expert", "path": "blocks.2.feedforward", "over": 2},
        {"step": 11, "kind": "replace", "path": "blocks.2.feedforward", "spec": {"kind": "plain", "hidden": 8}},
    ]
    moves = read_recipe(recipe).moves
    plan = plan_moves(moves, SPEC, steps=14, seed=1)
    spans = [(part.bias.split(".")[1], part.expert, part.start, part.first, part.last) for part in plan.raisings]
    assert spans == [("1", 2, 4, 4, 5), ("2", 2, 4, 6, 10), ("2", 3, 8, 8, 10)]
    ends = [2, 4, 6, 8, 11, 14]
    work = [spec.flops(16) * (end - begin) for (begin, spec), end in zip(plan.specs, ends, strict=True)]
    assert plan.average_flops(16, 14) == pytest.approx(sum(work) / 14)
    assert plan.average_flops(16, 2) == SPEC.flops(16)
    assert plan.average_flops(16, 4) == pytest.approx(sum(work[:2]) / 4)
