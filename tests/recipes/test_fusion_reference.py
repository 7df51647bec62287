"""docs/fusion_reference.md lists every rule with its numbers and every key of a fusion's recipe, as the code has them.

``python tests/recipes/test_fusion_reference.py`` writes the lists anew.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from lamoid.fusion.rules.consensus import Election
from lamoid.fusion.rules.rule import Options, Rule
from lamoid.fusion.rules.table import RULES
from lamoid.recipes.fusion_recipe import Filtered, FusionRecipe, MemberTable, StepTable, TaskTable

PAGE = Path(__file__).parents[2] / "docs" / "fusion_reference.md"
BEGIN, END = "<!-- lists -->\n", "<!-- end of lists -->\n"
TABLES: dict[str, type[msgspec.Struct]] = {
    "The recipe": FusionRecipe,
    "`[[members]]`": MemberTable,
    "A value by the tensors' names": Filtered,
    "`[[tasks]]`": TaskTable,
    "`[[steps]]`": StepTable,
}
STATISTICS = {"fisher": "Fisher information", "gram": "products of inputs", "merged_gram": "made in the fusion"}


def lists() -> str:
    """Write the table of rules, what their numbers mean, and the keys of the recipe's tables."""
    rows = ["| rule | when | base | members | weights | numbers |", "|---|---|---|---|---|---|", *map(_row, RULES)]
    parts = ["## Rules", "\n".join(rows), "## What the numbers mean"]
    kinds = {kind: None for rule in RULES.values() for kind in _kinds(rule)}
    parts += ["\n".join(f"- {_rules_of(kind)}: {_told(kind, ' ')}" for kind in kinds)]
    parts += [f"Signs are elected so: {_told(Election, ' ')}"]
    for title, kind in TABLES.items():
        keys = ", ".join(_key(field) for field in msgspec.structs.fields(kind))
        parts += [f"## {title}", _told(kind), f"Keys: {keys}"]
    return "\n\n".join(parts) + "\n"


def _row(name: str) -> str:
    rule = RULES[name]
    most = "more" if rule.most is None else str(rule.most)
    members = most if rule.least == rule.most else f"{rule.least} or {most}"
    needs = f"{rule.base}; {STATISTICS[rule.statistic]}" if rule.statistic else rule.base
    numbers = ", ".join(_key(field) for field in msgspec.structs.fields(rule.options)) or "none"
    return f"| `{name}` | {rule.says} | {needs} | {members} | {'yes' if rule.weighted else 'no'} | {numbers} |"


def _kinds(rule: Rule) -> list[type]:
    """Give the tables of numbers that a rule's own is built on, the widest first."""
    kinds = [kind for kind in reversed(rule.options.__mro__) if issubclass(kind, Options) and kind is not Options]
    return [kind for kind in kinds if "__doc__" in vars(kind)]


def _rules_of(kind: type) -> str:
    names = [name for name, rule in RULES.items() if kind in _kinds(rule)]
    plain = [name for name in names if "@" not in name or name.partition("@")[0] not in names]
    return ", ".join(f"`{name}`" for name in plain)


def _told(kind: type, between: str = "\n\n") -> str:
    return between.join(
        text.replace("\n", " ") for text in (inspect.getdoc(kind) or "").replace("``", "`").split("\n\n")
    )


def _key(field: msgspec.structs.FieldInfo) -> str:
    default: Any = field.default
    if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if field.required or isinstance(default, msgspec.Struct):
        return f"`{field.encode_name}` (needed)" if field.required else f"`{field.encode_name}`"
    return f"`{field.encode_name}` = {json.dumps(default)}"


def test_the_page_has_every_rule_and_key() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == lists()
    assert all(isinstance(rule, Rule) and f"| `{name}` |" in text for name, rule in RULES.items())


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page[: page.index(BEGIN) + len(BEGIN)] + lists() + page[page.index(END) :], encoding="utf-8")
