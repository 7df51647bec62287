"""Files stay below 400 lines, functions below 60, parameters at 8: what grows longer does two things."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    str(path.relative_to(ROOT)): path
    for folder in ("lamoid", "benchmarks", "examples", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 8
PUBLIC_VERBS = {
    ("lamoid/recipes/adapt.py", "adapt"),
    ("lamoid/recipes/clean.py", "clean"),
    ("lamoid/recipes/evaluate.py", "evaluate"),
    ("lamoid/recipes/fuse.py", "fuse"),
    ("lamoid/recipes/fusion_statistics.py", "statistics"),
    ("lamoid/recipes/generate.py", "generate"),
    ("lamoid/recipes/prepare.py", "prepare"),
    ("lamoid/recipes/tokenizer.py", "tokenizer"),
    ("lamoid/recipes/tune.py", "tune"),
    ("lamoid/verbs/llama.py", "Llama.generate"),
    ("lamoid/verbs/llama.py", "Llama.stream"),
}
"""What a person calls: these alone may have more parameters, as long as the others are given by name."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, scope: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its dotted name, a nested or second one of the same name too."""
    for node in ast.iter_child_nodes(tree):
        name = f"{scope}.{node.name}".lstrip(".") if isinstance(node, Function | ast.ClassDef) else scope
        if isinstance(node, Function):
            yield name, node
        yield from functions(node, name)


def long_functions(tree: ast.AST) -> list[tuple[str, int, int]]:
    """Name, line and length of each function that is too long; decorators count."""
    found = []
    for name, node in functions(tree):
        first = min(part.lineno for part in (node, *node.decorator_list))
        length = (node.end_lineno or 0) - first + 1
        if length > MOST_FUNCTION_LINES:
            found.append((name, node.lineno, length))
    return found


def positional(node: Function) -> int:
    """Parameters that may be given by place; a method's own object is not given."""
    given = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len(given) - (given[:1] in (["self"], ["cls"])) + (node.args.vararg is not None)


def wide_functions(tree: ast.AST) -> list[tuple[str, int, int]]:
    """Name, positional and all parameters of each function that has too many."""
    found = []
    for name, node in functions(tree):
        count = positional(node) + len(node.args.kwonlyargs) + (node.args.kwarg is not None)
        if count > MOST_PARAMETERS:
            found.append((name, positional(node), count))
    return found


@pytest.mark.parametrize("name", FILES)
def test_file_and_functions_are_short(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    assert long_functions(ast.parse(text)) == []


def test_at_most_eight_parameters_but_for_public_verbs() -> None:
    wide = {
        (name, function): by_place
        for name, path in FILES.items()
        if not name.startswith("tests/")
        for function, by_place, _ in wide_functions(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert wide.keys() == PUBLIC_VERBS
    assert max(wide.values()) <= MOST_PARAMETERS


def test_a_short_function_hides_no_long_one_of_the_same_name() -> None:
    long = "    def forward(self):\n" + "        x = 1\n" * 60
    tree = ast.parse(f"class A:\n{long}class B:\n    def forward(self): pass\n")
    assert long_functions(tree) == [("A.forward", 2, 61)]
    assert long_functions(ast.parse(f"class A:\n    async{long[3:].replace('x = 1', 'pass', 1)}")) != []


def test_parameters_of_every_kind_count() -> None:
    def found(parameters: str, prefix: str = "") -> list[tuple[str, int, int]]:
        return wide_functions(ast.parse(f"class A:\n {prefix}def f({parameters}): pass"))

    assert found("self, a, b, c, d, e, f, g, h") == []
    assert found("self, a, b, c, d, e, f, g, h, i") == [("A.f", 9, 9)]
    assert found("a, /, b, *, c, d, e, f, g, h, i", "async ") == [("A.f", 2, 9)]
    assert found("a, b, c, d, e, f, g, *h, **i") == [("A.f", 8, 9)]


def test_a_package_file_holds_a_docstring_and_nothing_else() -> None:
    for path in (ROOT / "lamoid").rglob("__init__.py"):
        if path.parent.name != "lamoid":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_no_drawers() -> None:
    drawers = {"utils", "util", "common", "misc", "helpers", "helper", "base"}
    assert [path for path in (ROOT / "lamoid").rglob("*") if path.stem in drawers] == []
