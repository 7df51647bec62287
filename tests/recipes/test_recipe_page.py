"""docs/recipe.md lists every key of a recipe, and of the rules of cleaning, with its default, and no other."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.text.clean_rules import CleanSpec

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
ROWS = dict(re.findall(r"^\| `([a-z_.]+)` \|(?: (.*?))?? \|", PAGE.read_text(encoding="utf-8"), flags=re.M))


def structs(annotation: Any) -> list[type[msgspec.Struct]]:
    kinds = getattr(annotation, "__args__", (annotation,))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]


def keys() -> dict[str, set[str]]:
    """Give each key with what the page may say of its default."""
    found: dict[str, set[str]] = {}
    for top in msgspec.structs.fields(TrainingRecipe):
        tables = structs(top.type)
        if not tables:
            found[top.encode_name] = {f"`{json.dumps(top.default)}`"}
        for table in tables:
            for field in msgspec.structs.fields(table):
                plain = isinstance(field.default, str | int | float | tuple)
                shown = f"`{json.dumps(field.default)}`" if plain else ""
                found.setdefault(f"{top.encode_name}.{field.encode_name}", set()).add(shown)
    for rule in msgspec.structs.fields(CleanSpec):
        for field in msgspec.structs.fields(rule.type):
            found[f"clean.{rule.name}.{field.name}"] = {f"`{json.dumps(field.default)}`"}
    return found


@pytest.mark.parametrize("key", keys())
def test_a_key_stands_on_the_page_with_its_default(key: str) -> None:
    assert ROWS[key] in keys()[key]


def test_the_page_names_no_other_key() -> None:
    assert set(ROWS) - set(keys()) == {
        *("tokenizer.kind", "objective.kind", "optimizer.kind", "average.kind", "data.kind"),
    }, "tags, no fields"
