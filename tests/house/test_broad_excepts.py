"""Only declared errors are a person's; a broad except would hide a bug behind exit status 2 or behind nothing.

A broad except that cleans up and then raises the very same error hides nothing and is let through.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROAD = {"Exception", "BaseException"}
ALLOWED = {
    ("lamoid/cli/main.py", "run"): "the bug report and exit status 70",
    ("lamoid/text/tokenizer.py", "library_guard"): "the tokenizers library raises bare Exceptions and a PanicException",
}
SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
INNER = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def sources() -> dict[str, ast.Module]:
    paths = sorted((ROOT / "lamoid").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def scoped(tree: ast.AST, scope: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the dotted name of the class or function it stands in; "" at the top of a module."""
    for node in ast.iter_child_nodes(tree):
        yield scope, node
        yield from scoped(node, f"{scope}.{node.name}".lstrip(".") if isinstance(node, SCOPES) else scope)


def last_name(node: ast.expr | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_broad(kind: ast.expr | None) -> bool:
    parts = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(last_name(part) in BROAD for part in parts)


def within(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every node of these statements, but for the bodies of functions defined there."""
    for node in body:
        yield node
        if not isinstance(node, INNER):
            yield from within(list(ast.iter_child_nodes(node)))  # type: ignore[arg-type]


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Ends with a bare ``raise``, and no way before it leads elsewhere."""
    *before, last = handler.body
    leaving = ast.Return | ast.Break | ast.Continue | ast.Raise | ast.Yield
    is_bare = isinstance(last, ast.Raise) and last.exc is None
    return is_bare and not any(isinstance(node, leaving) for node in within(before))


def hides(node: ast.AST) -> bool:
    """Whether it takes any error and does not give it on: an ``except``, or ``contextlib.suppress``."""
    if isinstance(node, ast.ExceptHandler):
        return (node.type is None or is_broad(node.type)) and not raises_again(node)
    return isinstance(node, ast.Call) and last_name(node.func) == "suppress" and any(map(is_broad, node.args))


def hidden(tree: ast.Module) -> list[str]:
    return [scope for scope, node in scoped(tree) if hides(node)]


def asserted(tree: ast.Module) -> list[str]:
    """Every ``assert``, and every mention of its error."""
    return [
        f"{scope}: line {getattr(node, 'lineno', 0)}"
        for scope, node in scoped(tree)
        if isinstance(node, ast.Assert) or (isinstance(node, ast.expr) and last_name(node) == "AssertionError")
    ]


def test_broad_excepts_stand_only_where_they_are_declared() -> None:
    """And every place that is declared still has one."""
    assert {(name, scope) for name, tree in sources().items() for scope in hidden(tree)} == ALLOWED.keys()


def test_nothing_is_checked_by_assert() -> None:
    """``python -O`` drops asserts, and their error would be a bug's: what was given is an InputError."""
    assert {name: found for name, tree in sources().items() if (found := asserted(tree))} == {}


@pytest.mark.parametrize(
    ("code", "places"),
    [
        ("def f():\n try: g()\n except Exception: return 1", ["f"]),
        ("def f():\n try: g()\n except (OSError, BaseException): pass", ["f"]),
        ("def f():\n try: g()\n except: pass", ["f"]),
        ("def f():\n try: g()\n except builtins.Exception: pass", ["f"]),
        ("def f():\n try: g()\n except* Exception: pass", ["f"]),
        ("def f():\n try: g()\n except Exception as e: raise InputError('x', 'y', 'z') from e", ["f"]),
        ("def f():\n try: g()\n except Exception as e: raise e", ["f"]),
        ("def f():\n try: g()\n except Exception:\n  if x: return 1\n  raise", ["f"]),
        ("def f():\n try: g()\n except Exception:\n  if x: raise InputError('x', 'y', 'z')\n  raise", ["f"]),
        ("def f():\n for x in y:\n  try: g()\n  except Exception:\n   if x: continue\n   raise", ["f"]),
        ("async def f():\n try: g()\n except Exception: pass", ["f"]),
        ("class A:\n try: g()\n except Exception: pass", ["A"]),
        ("class A:\n async def f():\n  def h():\n   try: g()\n   except Exception: pass", ["A.f.h"]),
        ("try: g()\nexcept Exception: pass", [""]),
        ("def f():\n try: g()\n except Exception: pass\ntry: g()\nexcept Exception: pass", ["f", ""]),
        ("def f():\n with suppress(Exception): g()", ["f"]),
        ("def f():\n with a, contextlib.suppress(OSError, BaseException): g()", ["f"]),
        ("def f():\n stack.enter_context(suppress(Exception))", ["f"]),
        ("def f():\n try: g()\n except Exception:\n  clean()\n  raise", []),
        ("def f():\n try: g()\n except BaseException:\n  def h(): return 1\n  raise", []),
        ("def f():\n try: g()\n except (OSError, ValueError): pass", []),
        ("def f():\n with suppress(OSError): g()", []),
    ],
)
def test_what_hides_an_error_is_found(code: str, places: list[str]) -> None:
    assert hidden(ast.parse(code)) == places


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("assert x", 1),
        ("class A:\n async def f(): assert x, 'y'", 1),
        ("def f(): raise AssertionError", 1),
        ("def f(): raise AssertionError('x')", 1),
        ("def f():\n try: g()\n except builtins.AssertionError: pass", 1),
        ("def f(): raise InputError('assert', 'x', 'y')", 0),
    ],
)
def test_an_assert_is_found(code: str, count: int) -> None:
    assert len(asserted(ast.parse(code))) == count
