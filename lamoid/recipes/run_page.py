"""One page of HTML about runs that needs nothing else: tables and curves, every word of them escaped."""

from collections.abc import Mapping, Sequence
from html import escape

from lamoid.recipes.recorded_run import RecordedRun
from lamoid.recipes.run_chart import draw_svg
from lamoid.recipes.run_curves import COLOURS, OVERS, picture

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.grid { stroke: #8883; } .mark { display: inline-block; width: .8em; height: .8em; margin-right: .5em; }
"""
# Were a word not escaped after all, a browser would still run and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(
    runs: Mapping[str, RecordedRun], overview: Sequence[Sequence[str]], comparison: Sequence[Sequence[str]]
) -> str:
    """Write the page; ``overview`` and ``comparison`` are tables whose first row is their header."""
    problems = [problem for run in runs.values() for problem in run.summary.problems]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>Runs</title><style>{_STYLE}</style></head><body>",
        "<h1>Runs</h1>",
        _table(overview, marks=COLOURS),
        *_charts(runs),
    ]
    if comparison:
        parts += ["<h2>What differs</h2>", _table(comparison)]
    if problems:
        parts += [
            "<h2>What could not be read</h2>",
            "<ul>",
            *(f"<li>{escape(each)}</li>" for each in problems),
            "</ul>",
        ]
    return "\n".join([*parts, "</body></html>", ""])


def _charts(runs: Mapping[str, RecordedRun]) -> list[str]:
    """Draw the losses over each axis that the runs have; training is faint, validation strong."""
    found: list[str] = []
    for number, over in enumerate(OVERS):
        shown = picture(runs, over)
        if shown is not None:
            found += [f"<h2>Loss over {over}</h2>", draw_svg(shown, number)]
    return found


def _table(rows: Sequence[Sequence[str]], marks: Sequence[str] = ()) -> str:
    header, *body = rows
    written = ["<table>", "<tr>", *(f"<th>{escape(cell)}</th>" for cell in header), "</tr>"]
    for number, row in enumerate(body):
        mark = f'<span class="mark" style="background:{marks[number % len(marks)]}"></span>' if marks else ""
        cells = [f"<td>{mark if not at else ''}{escape(cell)}</td>" for at, cell in enumerate(row)]
        written += ["<tr>", *cells, "</tr>"]
    return "\n".join([*written, "</table>"])
