"""Tables of figures for a terminal."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

LARGE = 1e7


def build_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table of names and figures: long names are folded, figures never; names are never read as markup."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE, padding=(0, 1))
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold", no_wrap=index > 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def table_lines(table: RenderableType, width: int = 120) -> list[str]:
    """Write a table as lines of plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n").split("\n")


def show(value: float | None, interval: tuple[float, float] | None = None, digits: int = 4) -> str:
    """Write a figure, its interval on a line below with one digit less."""
    return "-" if value is None else _number(value, digits) + show_interval(interval, digits - 1)


def show_interval(interval: tuple[float, float] | None, digits: int = 3) -> str:
    """Write an interval as a line to stand below its figure; nothing for None."""
    return "" if interval is None else f"\n[{_number(interval[0], digits)}, {_number(interval[1], digits)}]"


def _number(value: float, digits: int) -> str:
    """Write large numbers with an exponent: a perplexity may have 300 digits."""
    return f"{value:.{digits}f}" if abs(value) < LARGE else f"{value:.{digits}e}"
