"""Measures models on text: nats a token, perplexity and bits a byte, side by side, with 95 % intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from lamoid.errors import InputError
from lamoid.evaluation.compare import Interval
from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.picture import NO_MATPLOTLIB, Row, can_draw, draw_intervals
from lamoid.evaluation.report import Figures, Measured, Origin, Report
from lamoid.evaluation.text_table import build_table, show, show_interval, table_lines
from lamoid.evaluation.units import are_few, hash_texts
from lamoid.recipes.measuring import Measuring, Texts, as_paths, name_paths, read_texts
from lamoid.recipes.progress import Progress
from lamoid.recipes.reported_command import report_command
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder


class Evaluated(msgspec.Struct, frozen=True):
    """One model's figures; ``difference`` is its bits a byte minus the best model's, resampled in pairs.

    ``perplexity`` is None beyond 1e308; the verdict "not distinguishable" means that the difference's interval holds 0.
    """

    path: str
    nats_per_token: float
    interval: Interval | None
    perplexity: float | None
    perplexity_interval: Interval | None
    bits_per_byte: float
    bits_per_byte_interval: Interval | None
    tokens: int
    bytes: int
    difference: float
    difference_interval: Interval | None
    verdict: str


class Evaluation(msgspec.Struct, frozen=True):
    """All models on one text, the best by bits a byte named."""

    on: str
    models: list[Evaluated]
    best: str
    units: int
    unit: str
    notes: list[str]
    reports: list[Report]

    def render(self) -> RenderableType:
        """Build the table and the sentences below it."""
        rows = [
            (
                model.path,
                show(model.nats_per_token, model.interval),
                "beyond 1e308" if model.perplexity is None else show(model.perplexity, model.perplexity_interval, 3),
                show(model.bits_per_byte, model.bits_per_byte_interval),
                _standing(model),
            )
            for model in self.models
        ]
        header = ("model", "nats a token", "perplexity", "bits a byte", "beside the best")
        table = build_table(f"{self.on}: {self.units} {self.unit} [95 % intervals]", header, rows)
        return Group(table, *(Text(note) for note in self.notes))

    def lines(self) -> list[str]:
        """Write the same as plain text."""
        return table_lines(self.render())


def evaluate(
    models: Annotated[Sequence[str | Path], "Model folders."],
    *,
    on: Annotated[
        str | Path | Sequence[str | Path], "Text to measure on: a file, a folder or a glob; may be repeated."
    ],
    out: Annotated[str | Path | None, "Folder for evaluation.json and evaluation.png."] = None,
    separator: Annotated[str | None, "What parts the documents of a text file."] = None,
    field: Annotated[str, "Field of a JSONL file that holds the text."] = "text",
    context: Annotated[int | None, "Tokens read at once, at most the model's own context."] = None,
    batch: Annotated[int | None, "Windows read at once."] = None,
    device: Annotated[str, "Where to compute: cpu, cuda."] = "cpu",
    dtype: Annotated[str | None, "Compute in float32, bfloat16 or float16 instead of the stored dtype."] = None,
    seed: Annotated[int, "Seed of the bootstrap."] = 0,
    ignore_field: Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."] = (),
    overwrite: Annotated[bool, "Replace an earlier evaluation at --out."] = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure ``models`` on the text ``on``: each token once, from the start token, in windows of the context.

    Models are compared by bits a byte, since their tokens may differ. Documents are resampled, or, where there are
    fewer than 30, blocks of about 4096 bytes. Raises ``InputError`` for what cannot be read or measured.
    """
    command = report_command(evaluate, locals())
    paths = [Path(model) for model in as_paths(models)]
    if not paths:
        raise InputError("models", "none is given", "name at least one model folder")
    if batch is not None and batch < 1:
        raise InputError("batch", f"is {batch}, must be at least 1", "leave it out")
    # Opening reads headers alone: what cannot be opened is refused before anything is measured.
    folders = [open_folder(path, ignore_fields=ignore_field) for path in paths]
    texts = read_texts(on, separator=separator, field=field)
    told = [f"{remark}." for remark in dict.fromkeys(remark for folder in folders for remark in folder.remarks)]
    measuring = Measuring(context, batch, device, dtype, progress, ignore_field, remarks=told)
    part = Texts(texts, in_blocks=are_few(texts))
    measured = Measured.of([measuring.losses(path, part)[0] for path in paths], seed)
    if measured.nats.shape[1] == 0:
        raise InputError(name_paths(on), "holds no token that a model scores", "give more text")
    result = _summarise(paths, measured, name_paths(on), part, command, measuring.remarks)
    if out is not None:
        _save(result, Path(out), overwrite=overwrite)
    return result


def _summarise(
    paths: Sequence[Path], measured: Measured, name: str, part: Texts, command: str, remarks: Sequence[str]
) -> Evaluation:
    figures = measured.figures()
    best = min(range(len(paths)), key=lambda index: figures[index].bits_per_byte)
    units = measured.nats.shape[1]
    origin = Origin(hash_texts(part.texts), units, measured.seed, command)
    models: list[Evaluated] = []
    reports: list[Report] = []
    for index, (path, found) in enumerate(zip(paths, figures, strict=True)):
        difference = measured.difference(index, best, per="bytes")
        models.append(_evaluated(path, found, difference, is_best=index == best))
        reports += origin.reports(str(path), hash_model(path), found)
    unit = "blocks of about 4096 bytes" if part.in_blocks else "documents"
    notes = [*remarks, *_notes(models, str(paths[best]), units, unit)]
    return Evaluation(name, models, str(paths[best]), units, unit, notes, reports)


def _evaluated(path: Path, figures: Figures, difference: tuple[float, Interval | None], *, is_best: bool) -> Evaluated:
    value, interval = difference
    is_worse = interval is not None and interval[0] > 0.0
    verdict = "best" if is_best else "worse" if is_worse else "not distinguishable"
    return Evaluated(
        str(path),
        figures.nats_per_token,
        figures.nats_per_token_interval,
        figures.perplexity,
        figures.perplexity_interval,
        figures.bits_per_byte,
        figures.bits_per_byte_interval,
        figures.tokens,
        figures.bytes,
        value,
        interval,
        verdict,
    )


def _standing(model: Evaluated) -> str:
    """Write how many bits a byte more than the best model it takes, and whether that is significant."""
    if model.verdict == "best":
        return "best"
    return f"+{model.difference:.4f} {model.verdict}" + show_interval(model.difference_interval)


def _notes(models: Sequence[Evaluated], best: str, units: int, unit: str) -> list[str]:
    notes = []
    alike = [model.path for model in models if model.verdict == "not distinguishable"]
    if alike:
        notes.append(f"Not significant: {best} and {', '.join(alike)} cannot be told apart on this text.")
    if units < 10:
        notes.append(f"The intervals rest on few {unit} ({units}): take them with care.")
    return notes


def _save(result: Evaluation, out: Path, *, overwrite: bool) -> None:
    with durable_folder(out, overwrite=overwrite) as draft:
        draft.write("evaluation.json", msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        if can_draw():
            rows = [Row(model.path, model.bits_per_byte, model.bits_per_byte_interval) for model in result.models]
            draft.write("evaluation.png", draw_intervals({result.on: rows}, axis="bits a byte, lower is better"))
    if not can_draw():
        result.notes.append(NO_MATPLOTLIB)
