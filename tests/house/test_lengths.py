"""Files stay below 400 lines and functions below 60: what grows longer does two things."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for folder in ("lamoid", "benchmarks", "examples", "tests") for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_a_package_file_holds_a_docstring_and_nothing_else() -> None:
    for path in (ROOT / "lamoid").rglob("__init__.py"):
        if path.parent.name != "lamoid":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_no_drawers() -> None:
    drawers = {"utils", "util", "common", "misc", "helpers", "helper", "base"}
    assert [path for path in (ROOT / "lamoid").rglob("*") if path.stem in drawers] == []


def test_at_most_eight_positional_parameters() -> None:
    for path in (ROOT / "lamoid").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert len(node.args.posonlyargs) + len(node.args.args) <= 8, f"{path}: {node.name}"
