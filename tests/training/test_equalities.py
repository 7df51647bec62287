"""The equalities that a trainer must not break, with dropout 0 and no balancing term; each exact or to a stated bound.

Bounds are of the root-mean-square difference over the root mean square, against float64 where rounding is the only
cause: a float32 sum in another order moves a number by about 1e-7 of its size.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import TrainingBatch
from lamoid.recipes import train as recipe_file
from lamoid.recipes import training_run
from lamoid.recipes.train import train
from lamoid.training.loop import compute_gradients
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.saver import Saver
from lamoid.training.state import TrainingState
from lamoid.weights.folder import load_model, open_folder

CAUSAL = OBJECTIVES["causal"]
SEED = sum(os.environ.get("LAMOID_SEED", "0").encode())
FAMILIES = ["llama", "gpt2", "mistral", "qwen3"]
ROUNDING = 1e-5
CONTEXT, VOCAB = 16, 31


def make_state(family: str) -> TrainingState:
    shape = Shape(family=family, width=32, layers=2, heads=4, kv_heads=0 if family == "gpt2" else 2, context=CONTEXT)
    model = LanguageModel(shape.spec(VOCAB))
    initialise(model, SEED + 3, deviation=0.2)
    return TrainingState(model, AdamWSpec().build(trained_parameters(model)), 9)


def documents(count: int) -> list[Tensor]:
    """Draw documents of 3 to 8 tokens."""
    generator = torch.Generator().manual_seed(SEED)
    lengths = torch.randint(3, 9, (count,), generator=generator).tolist()
    return [torch.randint(0, VOCAB, (length,), generator=generator) for length in lengths]


def alone(document: Tensor, pad: int = 0) -> TrainingBatch:
    """Give one document as a row, with ``pad`` places behind it that hold anything and count for nothing."""
    ids = torch.cat([document[:-1], torch.full((pad,), 7)])
    targets = torch.cat([document[1:], torch.full((pad,), IGNORED)])
    segments = torch.cat([torch.ones(len(document) - 1, dtype=torch.int64), torch.zeros(pad, dtype=torch.int64)])
    return TrainingBatch(Batch(ids[None], segments[None] if pad else None), targets[None])


def packed(group: Sequence[Tensor]) -> TrainingBatch:
    """Give documents one behind the other in one row, each seeing only itself."""
    ids = torch.cat([document[:-1] for document in group])
    numbers = torch.cat([torch.full((len(d) - 1,), number + 1) for number, d in enumerate(group)])
    return TrainingBatch(Batch(ids[None], numbers[None]), torch.cat([document[1:] for document in group])[None])


def joined(rows: Sequence[TrainingBatch]) -> TrainingBatch:
    """Put rows of one length under each other."""
    segments = [torch.ones_like(r.batch.ids) if r.batch.segments is None else r.batch.segments for r in rows]
    ids, targets = torch.cat([row.batch.ids for row in rows]), torch.cat([row.targets for row in rows])
    return TrainingBatch(Batch(ids, torch.cat(segments)), targets)


def gradient(family: str, parts: Sequence[TrainingBatch]) -> tuple[float, Tensor]:
    state = make_state(family)
    loss = compute_gradients(state, parts, CAUSAL)
    return loss, torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])


def assert_equal_but_for_rounding(one: tuple[float, Tensor], other: tuple[float, Tensor]) -> None:
    assert one[0] == pytest.approx(other[0], rel=ROUNDING)
    assert (one[1] - other[1]).norm() <= ROUNDING * other[1].norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_8_is_4_batches_of_2(family: str) -> None:
    """Also where the parts have unequal numbers of targets, at which a mean of means goes wrong."""
    rows = [alone(document, CONTEXT + 1 - len(document)) for document in documents(8)]
    quarters = [joined(rows[at : at + 2]) for at in range(0, 8, 2)]
    counts = [CAUSAL.counts(part)["next_token"] for part in quarters]
    whole = gradient(family, [joined(rows)])
    assert_equal_but_for_rounding(gradient(family, quarters), whole)
    losses = [gradient(family, [part])[0] for part in quarters]
    assert sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts) == pytest.approx(
        whole[0], rel=ROUNDING
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_are_documents_one_by_one(family: str) -> None:
    group = documents(2)
    assert_equal_but_for_rounding(
        gradient(family, [packed(group)]), gradient(family, [alone(document) for document in group])
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family: str) -> None:
    document = documents(1)[0]
    assert_equal_but_for_rounding(gradient(family, [alone(document, 8)]), gradient(family, [alone(document)]))


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_a_row_does_not_depend_on_its_company(family: str) -> None:
    state = make_state(family)
    rows = [alone(document, CONTEXT + 1 - len(document)) for document in documents(6)]

    def nats(row: TrainingBatch) -> float:
        return CAUSAL.terms(state.model, row)["next_token"].sum.item()

    apart = nats(rows[0])
    sums = [nats(joined([rows[0], *rows[1:size]])) - sum(map(nats, rows[1:size])) for size in (2, 4, 6)]
    assert sums == pytest.approx([apart] * 3, rel=ROUNDING)
    logits = [
        state.model(joined(company).batch)[0, : len(documents(1)[0]) - 1] for company in (rows[:1], rows, rows[:3])
    ]
    for found in logits[1:]:
        assert (found - logits[0]).norm() <= ROUNDING * logits[0].norm()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (recipe_file, training_run):
        monkeypatch.setattr(file, "measure_peak", lambda *_: 1e12)


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """A run with an evaluation, a save, a move, an epoch's end and accumulation within its 12 steps."""
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 8)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.2},
        "training": {"steps": 12, "batch": 2, "accumulation": 2},
        "schedule": {"warmup": 4},
        "average": {"kind": "ema", "decay": 0.8},
        "evaluation": {"every": 4, "keep_best": True},
        "checkpoint": {"every": 1, "keep": 20},
        "guard": {"on_spike": "skip", "window": 16},
        "moves": [{"kind": "widen", "path": "blocks.0.feedforward", "hidden": 96, "step": 6}],
        "log": {"every": 1, "tensorboard": False, "curve": False},
        "seed": SEED,
    }


def left_by(out: Path) -> dict[str, Any]:
    """Give weights, optimiser, parts, random states, schedule, place in the data and logged losses of a run's end."""
    found: dict[str, Any] = {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))
    }
    state = json.loads((out / "checkpoints" / "step-00000012" / "state.json").read_bytes())
    del state["seconds"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    kept = ("step", "loss", "validation_loss", "learning_rate", "gradient_norm", "tokens")
    figures = [{key: line[key] for key in kept if key in line} for line in lines]
    return {**found, "state": state, "figures": figures}


def parted(recipe: dict[str, Any], out: Path, after: int) -> None:
    """Train with a stop after a step, and go on."""
    check = Saver.check

    def stop(self: Saver, state: TrainingState) -> None:
        check(self, state)
        if state.step == after + 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Saver, "check", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=out)
    assert train(recipe, out=out, resume=True).resumed_from == after


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": {"kind": "muon"}}, {"optimizer": {"kind": "sgd"}}, {"optimizer": {"kind": "adafactor"}}],
    ids=["adamw", "muon", "sgd", "adafactor"],
)
def test_k_steps_and_the_rest_are_all_steps_at_every_boundary(recipe: dict, tmp_path: Path, changes: dict) -> None:
    recipe |= changes
    train(recipe, out=tmp_path / "whole")
    whole = left_by(tmp_path / "whole")
    assert whole["state"]["position"]["epoch"] >= 2, "epochs end within the run"
    for after in (1, 3, 4, 5, 6, 7, 8, 11) if not changes else (3, 6):
        parted(recipe, tmp_path / str(after), after)
        found = left_by(tmp_path / str(after))
        assert found.keys() == whole.keys()
        assert [name for name, value in whole.items() if found[name] != value] == [], f"stopped after step {after}"


def test_a_run_with_dropout_goes_on_with_the_same_draws(recipe: dict, tmp_path: Path) -> None:
    """An adapter's is the one dropout that there is."""
    del recipe["moves"]
    base = train(recipe, out=tmp_path / "base", set=["training.steps=1", "schedule.warmup=0"])
    del recipe["tokenizer"]
    recipe["model"] = {"from": base.model}
    runs = {}
    for dropout in (0.3, 0.0):
        recipe["adapter"] = {"dropout": dropout, "targets": ["all"]}
        train(recipe, out=tmp_path / f"whole {dropout}")
        parted(recipe, tmp_path / f"parted {dropout}", 5)
        runs[dropout] = left_by(tmp_path / f"whole {dropout}")
        assert left_by(tmp_path / f"parted {dropout}") == runs[dropout]
    assert runs[0.3]["figures"] != runs[0.0]["figures"], "dropout does something"


def test_a_checkpoint_written_in_the_background_is_the_one_that_training_waits_for(
    recipe: dict, tmp_path: Path
) -> None:
    ends = []
    for background in (True, False):
        recipe["checkpoint"]["background"] = background
        train(recipe, out=tmp_path / str(background))
        found = left_by(tmp_path / str(background))
        del found["state"]["identity"]
        ends.append(found)
    assert len([name for name in ends[0] if name.startswith("checkpoints/")]) == 12
    assert ends[0] == ends[1]


def test_the_saved_models_logits_are_the_trained_models(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit in float32."""
    models: list[LanguageModel] = []
    real = recipe_file._finish

    def keep(run: Any, *rest: Any) -> Any:
        models.append(run.state.model)
        return real(run, *rest)

    monkeypatch.setattr(recipe_file, "_finish", keep)
    del recipe["average"]
    train(recipe, out=tmp_path / "run")
    saved = load_model(open_folder(tmp_path / "run" / "model"))
    ids = torch.randint(0, saved.spec.vocab, (3, 16), generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        assert torch.equal(models[0].eval()(ids), saved.eval()(ids))


FAST_AND_TELLING = [
    "tests/training/test_guard.py",
    "tests/weights/test_durable.py",
    "tests/test_strict_json.py",
]


def test_what_is_refused_is_refused_without_asserts_too(tmp_path: Path) -> None:
    """``python -O`` drops every assert: no refusal may hang on one. Pytest makes plain code of a test's own."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-W", "ignore::pytest.PytestConfigWarning", *FAST_AND_TELLING]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def asserts_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.lstrip().startswith("assert "):
                yield f"{path.relative_to(folder)}:{number}"


def test_no_assert_stands_in_the_package() -> None:
    assert list(asserts_in(Path(__file__).parents[2] / "lamoid")) == []
