"""Lists training runs, compares them and draws their losses; what is broken in a folder is named and no obstacle."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lamoid.errors import InputError
from lamoid.evaluation.text_table import build_table, table_lines
from lamoid.recipes.recorded_run import RecordedRun, RunSummary, is_run, makes_several, read_run
from lamoid.recipes.run_curves import OVERS, draw_png, picture
from lamoid.recipes.run_page import write_page
from lamoid.weights.durable import durable_file

_MOST_VALUE = 60
_HEADER = ("run", "state", "model", "parameters", "steps", "loss", "validation", "best", "tokens/s", "started")
_FIGURES = (
    "loss",
    "validation_loss",
    "best_validation_loss",
    "tokens",
    "seconds",
    "tokens_per_second",
    "energy_joules",
)


class Runs(msgspec.Struct, frozen=True):
    """The runs found; for two or more that were named, the keys and the last figures in which they differ.

    ``differing`` maps a key of the recipes, as a dotted path, to its value in each of ``compared``, ``None`` where it
    is not said; ``figures`` maps the last figures likewise.
    """

    runs: list[RunSummary]
    compared: list[str]
    differing: dict[str, list[Any]]
    figures: dict[str, list[float | None]]
    png: str | None
    html: str | None

    def lines(self) -> list[str]:
        """Give what a person reads."""
        lines = table_lines(build_table(f"{len(self.runs)} runs", *_split(overview(self.runs))), width=160)
        if self.compared:
            lines += [
                "",
                *table_lines(
                    build_table("what differs", *_split(comparison(self))), width=max(160, 48 + 32 * len(self.runs))
                ),
            ]
        lines += [f"not read: {_plain(problem)}" for run in self.runs for problem in run.problems]
        return lines + [f"wrote {path}" for path in (self.png, self.html) if path is not None]


def runs(
    folders: Annotated[Sequence[Path], "runs, or folders of runs; two or more runs are compared"] = (Path("runs"),),
    *,
    png: Annotated[Path | str | None, "draw the losses into this PNG (needs lamoid[eval])"] = None,
    over: Annotated[str, "what the PNG's curves run over: steps, tokens or hours"] = "steps",
    html: Annotated[
        Path | str | None, "write one page of HTML with tables and curves, which needs nothing else"
    ] = None,
    overwrite: Annotated[bool, "replace these files if they exist"] = False,
) -> Runs:
    """List the runs in folders; those that are named themselves are compared too. No run is disturbed.

    Raise ``InputError`` for a folder that is no run and holds none.
    """
    if over not in OVERS:
        raise InputError("--over", f"is {over!r}", f"choose one of {', '.join(OVERS)}")
    paths = [folders] if isinstance(folders, str | Path) else [Path(each) for each in folders]
    named = [path for path in map(Path, paths) if is_run(path)]
    found = [read_run(folder) for path in map(Path, paths) for folder in _runs_in(path)]
    shown = _by_name(found)
    compared = {name: run for name, run in shown.items() if Path(run.summary.folder) in named} if len(named) > 1 else {}
    result = Runs(
        [msgspec.structs.replace(run.summary, name=name) for name, run in shown.items()],
        list(compared),
        differing_keys(compared),
        _last_figures(compared),
        None if png is None else str(png),
        None if html is None else str(html),
    )
    if png is not None:
        drawn = picture(shown, over)
        if drawn is None:
            raise InputError("--png", f"no run has a loss over {over}", "wait for its first figures, or choose another")
        durable_file(png, draw_png(drawn, f"loss over {over}"), overwrite=overwrite)
    if html is not None:
        page = write_page(shown, overview(result.runs), comparison(result) if compared else [])
        durable_file(html, page.encode("utf-8", errors="xmlcharrefreplace"), overwrite=overwrite)
    return result


def overview(summaries: Sequence[RunSummary]) -> list[list[str]]:
    """Write the list of runs as a table whose first row is its header."""
    rows: list[list[str]] = [list(_HEADER)]
    for run in summaries:
        of = "" if run.steps is None else f"/{run.steps}"
        state = f"{run.state}, silent {_span(run.silent)}" if run.state == "running" and run.silent else run.state
        losses = [_short(loss) for loss in (run.loss, run.validation_loss, run.best_validation_loss)]
        speed = "-" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}"
        size = "-" if run.parameters is None else f"{run.parameters:,}"
        begun = "-" if run.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))
        rows.append(
            [_plain(run.name), state, _plain(run.family or "-"), size, f"{run.step}{of}", *losses, speed, begun]
        )
    return rows


def comparison(result: Runs) -> list[list[str]]:
    """Write keys and figures that differ as a table whose first row is its header."""
    rows = [["", *map(_plain, result.compared)]]
    rows += [[_plain(key), *map(_value, values)] for key, values in result.differing.items()]
    return rows + [[_plain(name), *map(_short, values)] for name, values in result.figures.items()]


def differing_keys(compared: Mapping[str, RecordedRun]) -> dict[str, list[Any]]:
    """Give every key of the recipes that is not the same in all, with each one's value, ``None`` where unsaid."""
    flat = [_flat(run.recipe) for run in compared.values()]
    keys = sorted({key for each in flat for key in each})
    rows = {key: [each.get(key) for each in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _last_figures(compared: Mapping[str, RecordedRun]) -> dict[str, list[float | None]]:
    """Give the last figures of each run: those of the list, then the parts of the losses."""
    found = {name: [getattr(run.summary, name) for run in compared.values()] for name in _FIGURES if compared}
    parts = {name for run in compared.values() for name in run.metrics.latest if name.startswith(_PARTS)}
    found |= {name: [run.metrics.latest.get(name) for run in compared.values()] for name in sorted(parts)}
    return {name: values for name, values in found.items() if any(value is not None for value in values)}


def _runs_in(path: Path) -> list[Path]:
    """Give the folder itself if it is a run, or else the runs right inside it, by name.

    A folder of an adaptation or a search is given with the runs that it made.
    """
    if is_run(path):
        inside = (path / "runs", path) if makes_several(path) else ()
        made = [child for place in inside if place.is_dir() for child in place.iterdir() if is_run(child)]
        return [path, *sorted(made)]
    try:
        inside = sorted(child for child in path.iterdir() if child.is_dir() and is_run(child))
    except OSError as error:
        raise InputError(path, f"cannot be listed ({error.strerror})", "name a run, or a folder of runs") from error
    if not inside:
        raise InputError(path, "is no run and holds none", "name a run, or a folder of runs")
    return inside


def _by_name(found: Sequence[RecordedRun]) -> dict[str, RecordedRun]:
    """Call each run by its folder's name, or by its path where two have the same name."""
    names = [run.summary.name for run in found]
    return {run.summary.name if names.count(run.summary.name) == 1 else run.summary.folder: run for run in found}


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    return {
        key: value for name, part in tree.items() for key, value in _flat(part, f"{path}.{name}".strip(".")).items()
    }


def _split(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    return rows[0], rows[1:]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4f}"


def _value(value: Any) -> str:
    text = "-" if value is None else _plain(str(value))
    return text if len(text) <= _MOST_VALUE else f"...{text[3 - _MOST_VALUE :]}"


def _span(seconds: float | None) -> str:
    minutes = round(seconds or 0.0) // 60
    return f"{round(seconds or 0.0)} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _plain(text: str) -> str:
    """Write a text that a terminal cannot take for a command: control characters as escapes."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


_PARTS = ("loss/", "validation_loss/", "share_of_peak", "memory_peak", "device_memory_peak", "cost")
