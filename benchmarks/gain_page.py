"""Writes the tables of benchmarks/fusion_gain.py into docs/fusion.md and draws them."""

from pathlib import Path
from typing import Any

Tables = dict[str, list[dict[str, Any]]]
BEGIN, END = "<!-- gain: {} -->", "<!-- end of gain: {} -->"
MEASURES = {"texts": "nats a token", "tasks": "share of wrong answers"}
COLOURS = {"better": "#3a7d44", "worse": "#c1440e", "same": "#777777"}


def write_page(page: Path, tables: Tables, seeds: dict[str, list[int]]) -> None:
    """Put each table between its marks."""
    text = page.read_text(encoding="utf-8")
    for kind, rows in tables.items():
        begin, end = BEGIN.format(kind), END.format(kind)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + "\n" + "\n".join(_table(kind, rows, seeds[kind])) + "\n" + end + after
    page.write_text(text, encoding="utf-8")


def _table(kind: str, rows: list[dict[str, Any]], seeds: list[int]) -> list[str]:
    parts = list(rows[0]["parts"])
    lines = [
        f"Mean {MEASURES[kind]} over {', '.join(parts)} and seeds {', '.join(map(str, seeds))}; less is better.",
        "",
        f"| model | weights | {MEASURES[kind]} | from uniform [95 %] | by seed | {' | '.join(parts)} |",
        "|---|---|---|---|---|" + "---|" * len(parts),
    ]
    for row in rows:
        low, high = row["from_uniform_interval"]
        shown = f"{row['from_uniform']:+.3f} [{low:+.3f}, {high:+.3f}]"
        seen = ", ".join(f"{value:.3f}" for value in row["by_seed"])
        figures = " | ".join(f"{row['parts'][part]:.3f}" for part in parts)
        mark = "**" if verdict(row) == "better" else ""
        head = f"| {row['rule']} | {row['weighting']} | {mark}{row['mean']:.3f}{mark}"
        lines.append(f"{head} | {shown} | {seen} | {figures} |")
    return lines


def verdict(row: dict[str, Any]) -> str:
    """Say whether a row's interval lies below, above or about that of the uniform average."""
    low, high = row["from_uniform_interval"]
    return "better" if high < 0.0 else "worse" if low > 0.0 else "same"


def draw(tables: Tables, path: Path) -> None:
    """Draw each row's difference from the uniform average with its interval."""
    from matplotlib.figure import Figure

    most = max(len(rows) for rows in tables.values())
    figure = Figure(figsize=(7 * len(tables), 1.2 + 0.24 * most), dpi=110, layout="constrained")
    for axes, (kind, rows) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        ordered = sorted(rows, key=lambda row: -row["mean"])
        for place, row in enumerate(ordered):
            low, high = row["interval"]
            axes.plot([low, high], [place, place], color=COLOURS[verdict(row)], linewidth=2)
            axes.plot(row["mean"], place, "o", color=COLOURS[verdict(row)], markersize=4)
        axes.set_yticks(range(len(ordered)), [f"{row['rule']} {row['weighting']}".strip() for row in ordered])
        axes.tick_params(labelsize=7)
        uniform = next(row["mean"] for row in rows if row["weighting"] == "uniform")
        axes.axvline(uniform, color="#2a6099", linewidth=0.8, linestyle=":")
        axes.set_title(f"{kind}: {MEASURES[kind]}, less is better (dotted: uniform average)", fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
