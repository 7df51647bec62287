"""docs/multitask.md lists every key of a recipe of tasks, as the code has them.

``python tests/recipes/test_multitask_page.py`` writes the tables anew.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from lamoid.assembly.sharing import ShareSpec
from lamoid.recipes.multitask_recipe import MultitaskRecipe, TaskTable
from lamoid.training.soft_tie import SoftTieSpec
from lamoid.training.task_moves import TieSpec, UntieSpec

PAGE = Path(__file__).parents[2] / "docs" / "multitask.md"
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
TABLES: dict[str, type[msgspec.Struct]] = {
    "The recipe": MultitaskRecipe,
    "`[tasks.NAME]`": TaskTable,
    "`[[sharing]]`": ShareSpec,
    "`[[soft]]`": SoftTieSpec,
    '`[[moves]]`, kind = "tie"': TieSpec,
    '`[[moves]]`, kind = "untie"': UntieSpec,
}


def tables() -> str:
    """Write each table's keys with their defaults, under what its docstring says."""
    parts = []
    for title, kind in TABLES.items():
        told = "\n\n".join(
            text.replace("\n", " ") for text in (inspect.getdoc(kind) or "").replace("``", "`").split("\n\n")
        )
        keys = ", ".join(_key(field) for field in msgspec.structs.fields(kind))
        parts.append(f"## {title}\n\n{told}\n\nKeys: {keys}\n")
    return "\n".join(parts)


def _key(field: msgspec.structs.FieldInfo) -> str:
    default: Any = field.default
    if field.required or isinstance(default, msgspec.Struct):
        return f"`{field.encode_name}`"
    return f"`{field.encode_name}` = {json.dumps(default)}"


def test_the_page_has_every_key() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == tables()


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page[: page.index(BEGIN) + len(BEGIN)] + tables() + page[page.index(END) :], encoding="utf-8")
