"""Domain adaptation: a model goes on with text of a new domain; its gain there and what it forgets, in one table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lamoid.data.files import find_files
from lamoid.errors import InputError
from lamoid.evaluation.compare import Interval
from lamoid.evaluation.picture import NO_MATPLOTLIB, Row, can_draw, draw_intervals
from lamoid.evaluation.report import Figures, Measured
from lamoid.evaluation.text_table import build_table, show, show_interval, table_lines
from lamoid.evaluation.units import are_few
from lamoid.recipes.adapt_text import Domain, part_domain
from lamoid.recipes.fuse import fuse
from lamoid.recipes.measuring import Measuring, Texts, read_texts
from lamoid.recipes.progress import Progress
from lamoid.recipes.read_recipe import read_recipe, read_tree, recipe_tree
from lamoid.recipes.run_folder import RECIPE, claim_folder
from lamoid.recipes.train import train_recipe
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.recipes.training_run import check_run
from lamoid.weights.durable import durable_file

METHODS = ("full", "lora", "replay", "fused")
RESULT, PICTURE = "adapt.json", "adapt.png"
DEFAULTS: dict[str, Any] = {
    "training": {"steps": 300, "batch": 8},
    "optimizer": {"kind": "adamw", "learning_rate": 1e-4},
    "checkpoint": {"every": 100},
}
"""What is trained without a recipe."""
_OTHER_TEXT = "names other text", "name the texts with --to and --old"
WARMUP = 20
"""Steps of the warm-up, at most half of all, where nothing is said of the schedule."""


class Adapted(msgspec.Struct, frozen=True):
    """One model's bits a byte in both domains; ``gain`` is what it is better by in the new one than the base,
    ``forgetting`` what it is worse by in the old one, each with its 95 % interval, resampled in pairs."""

    method: str
    model: str
    trained_parameters: int
    seconds: float
    new: float
    new_interval: Interval | None
    old: float
    old_interval: Interval | None
    gain: float
    gain_interval: Interval | None
    forgetting: float
    forgetting_interval: Interval | None


class Adaptation(msgspec.Struct, frozen=True):
    """The base first, then what each method made of it, measured on documents that none was trained on."""

    out: str
    rows: list[Adapted]
    picture: str | None
    remarks: list[str]

    def lines(self) -> list[str]:
        """Give what a person reads."""
        header = ("model", "new domain", "gain", "old domain", "forgetting", "trained", "time")
        cells = [
            (
                row.method,
                show(row.new, row.new_interval),
                "" if row.method == "base" else f"{row.gain:+.4f}" + show_interval(row.gain_interval),
                show(row.old, row.old_interval),
                "" if row.method == "base" else f"{row.forgetting:+.4f}" + show_interval(row.forgetting_interval),
                f"{row.trained_parameters:,}",
                f"{row.seconds:.0f} s",
            )
            for row in self.rows
        ]
        table = build_table("Bits a byte on held-out text, lower is better [95 % intervals]", header, cells)
        return [*table_lines(table), *self.remarks, f"The models: {self.out}"]


@dataclass(frozen=True)
class _Plan:
    """A base, its two domains and how it is to be trained."""

    base: Path
    out: Path
    new: Domain
    old: Domain
    tree: dict[str, Any]
    replay: float

    def recipe(self, method: str) -> TrainingRecipe:
        """Give the recipe that a method trains by."""
        tree = {key: dict(value) if isinstance(value, Mapping) else value for key, value in self.tree.items()}
        tree["model"] = {"from": str(self.base)}
        data = dict(tree.get("data", {}))
        if method == "replay":
            sources = {
                "new": {"train": [str(self.new.train)], "weight": 1.0 - self.replay},
                "old": {"train": [str(self.old.train)], "weight": self.replay},
            }
            tree["data"] = {"sources": sources}
        else:
            tree["data"] = {**data, "train": [str(self.new.train)]}
        if method == "lora":
            tree.setdefault("adapter", {"kind": "lora"})
        else:
            tree.pop("adapter", None)
        return read_recipe(tree)


def adapt(
    model: Annotated[Path | str, "folder of the model to go on from"],
    *,
    to: Annotated[Sequence[str | Path], "text of the new domain: files, folders or globs; may be repeated"],
    old: Annotated[Sequence[str | Path], "text of the domain that it should not forget; may be repeated"],
    out: Annotated[Path | str, "folder for the models and the table"],
    methods: Annotated[
        Sequence[str], "full: all parameters; lora; replay: some old text among the new; fused: half base, half full"
    ] = ("full",),
    recipe: Annotated[Path | None, "how to train: a recipe in TOML without model and data"] = None,
    set: Annotated[Sequence[str], "override a key of the recipe: key.path=value; may be given often"] = (),
    replay: Annotated[float, "share of old text among the new, for the method replay"] = 0.1,
    hold_out: Annotated[float, "share of either text that is only measured on"] = 0.1,
    separator: Annotated[str | None, "what parts the documents of a text file"] = None,
    field: Annotated[str, "field of a JSONL file that holds the text"] = "text",
    seed: Annotated[int, "seed of the bootstrap"] = 0,
    resume: Annotated[bool, "go on with an adaptation that was cut off"] = False,
    progress: Progress | None = None,
) -> Adaptation:
    """Train a model further on a new domain, and measure what it gains there and forgets of the old.

    ``fused`` averages the base and the fully trained model (Wortsman et al., 2022, WiSE-FT), and trains nothing itself.
    Raise ``InputError`` for what cannot be used, before anything is trained.
    """
    chosen = _check(methods, replay, hold_out)
    _check_overrides(set)
    out, base = Path(out), Path(model)
    given = {} if recipe is None else read_tree(recipe)
    _check_given(given, recipe)
    tree = {**DEFAULTS, **given}
    tree |= {"model": {"from": str(base)}, "data": {**tree.get("data", {}), "train": [*map(str, to)]}}
    steps = read_recipe({"schedule": {"warmup": 0}, **tree}, set).training.steps
    tree = recipe_tree(read_recipe({"schedule": {"warmup": min(WARMUP, steps // 2)}, **tree}, set))
    find_files([*to, *old])
    with claim_folder(out, read_recipe(tree), resume=resume):
        part = partial(part_domain, share=hold_out, separator=separator, field=field)
        domains = part(to, out / "text" / "new", culprit="to"), part(old, out / "text" / "old", culprit="old")
        plan = _Plan(base, out, domains[0], domains[1], tree, replay)
        for method in chosen:
            if method != "fused":
                check_run(plan.recipe(method))
        made = {method: _make(plan, method, progress) for method in chosen}
        return _finish(plan, made, seed, progress)


def _check(methods: Sequence[str], replay: float, hold_out: float) -> list[str]:
    """Give the methods in their order, without those given twice; ``fused`` needs ``full``."""
    for method in methods:
        if method not in METHODS:
            raise InputError("methods", f"is {method[:60]!r}", f"choose from {', '.join(METHODS)}")
    for name, value in (("replay", replay), ("hold_out", hold_out)):
        if not 0.0 < value < 1.0:
            raise InputError(name, f"is {value}, must lie between 0 and 1", "0.1 is a tenth")
    if not methods:
        raise InputError("methods", "names none", f"choose from {', '.join(METHODS)}")
    wanted = {*methods, *(("full",) if "fused" in methods else ())}
    return [method for method in METHODS if method in wanted]


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what arguments say: the model, and the texts to train on."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key == "data":
            raise InputError(f"--set {override}", *_OTHER_TEXT)
        _check_key(key, f"--set {override}")


def _check_given(tree: Mapping[str, Any], recipe: Path | None) -> None:
    """Refuse the same in a recipe."""
    data = tree.get("data")
    keys = [*tree, *(f"data.{key}" for key in (data if isinstance(data, Mapping) else ()))]
    for key in keys:
        _check_key(key, f"{recipe}: {key}")


def _check_key(key: str, culprit: str) -> None:
    if key.partition(".")[0] == "model":
        raise InputError(culprit, "names another model", "name the folder to go on from as MODEL")
    if key == "data.train" or key.startswith("data.sources"):
        raise InputError(culprit, *_OTHER_TEXT)


def _make(plan: _Plan, method: str, progress: Progress | None) -> tuple[Path, int, float]:
    """Make a method's model; give its folder, how many parameters were trained, and the seconds it took."""
    begun, place = time.perf_counter(), plan.out / method
    if progress is not None:
        progress.say(f"{method}:")
    if method == "fused":
        if not place.exists():
            fuse([plan.base, plan.out / "full" / "model"], out=place, weights="0.5,0.5", progress=progress)
        return place, 0, time.perf_counter() - begun
    result = train_recipe(plan.recipe(method), place, resume=(place / RECIPE).exists(), progress=progress)
    return place / "model", result.trained_parameters, result.seconds


def _finish(
    plan: _Plan, made: Mapping[str, tuple[Path, int, float]], seed: int, progress: Progress | None
) -> Adaptation:
    """Measure all models in both domains and put them side by side."""
    models = {"base": (plan.base, 0, 0.0), **made}
    parts = []
    for domain in (plan.new, plan.old):
        texts = read_texts(domain.held_out, separator=None, field="text")
        parts.append(Texts(texts, in_blocks=are_few(texts)))
    measuring = Measuring(device=read_recipe(plan.tree).device, progress=progress)
    losses = [measuring.losses(path, *parts, label=method) for method, (path, _, _) in models.items()]
    new, old = (Measured.of([row[side] for row in losses], seed) for side in (0, 1))
    rows = [
        _row(method, models[method], new, old, number, figures)
        for number, (method, figures) in enumerate(
            zip(models, zip(new.figures(), old.figures(), strict=True), strict=True)
        )
    ]
    remarks, picture = list(measuring.remarks), plan.out / PICTURE if can_draw() else None
    if picture is None:
        remarks.append(NO_MATPLOTLIB)
    else:
        durable_file(picture, _draw(rows))
    result = Adaptation(str(plan.out), rows, None if picture is None else str(picture), remarks)
    durable_file(plan.out / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


def _row(
    method: str,
    made: tuple[Path, int, float],
    new: Measured,
    old: Measured,
    number: int,
    figures: tuple[Figures, Figures],
) -> Adapted:
    gain, gain_interval = new.difference(0, number, per="bytes")
    forgetting, forgetting_interval = old.difference(number, 0, per="bytes")
    here, there = figures
    return Adapted(
        method=method,
        model=str(made[0]),
        trained_parameters=made[1],
        seconds=made[2],
        new=here.bits_per_byte,
        new_interval=here.bits_per_byte_interval,
        old=there.bits_per_byte,
        old_interval=there.bits_per_byte_interval,
        gain=gain,
        gain_interval=gain_interval,
        forgetting=forgetting,
        forgetting_interval=forgetting_interval,
    )


def _draw(rows: Sequence[Adapted]) -> bytes:
    kinds = {"base": "base", "fused": "fused"}
    panels = {
        "new domain": [Row(row.method, row.new, row.new_interval, kinds.get(row.method, "member")) for row in rows],
        "old domain": [Row(row.method, row.old, row.old_interval, kinds.get(row.method, "member")) for row in rows],
    }
    return draw_intervals(panels, axis="bits a byte, lower is better")
