"""The first difference between two descriptions: its place and both values."""

import msgspec
import pytest

from lamoid.assembly.difference import first_difference
from lamoid.assembly.families.shape import Shape


def test_two_specs() -> None:
    one, other = (Shape(family="llama", width=8, layers=2, heads=heads, context=16) for heads in (2, 4))
    trees = [msgspec.to_builtins(shape.spec(10)) for shape in (one, other)]
    assert first_difference(trees[0], trees[0]) is None
    assert first_difference(*trees) == ("blocks[0].mixer.heads", "2", "4")


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ({"a": [1, {"b": 1}]}, {"a": [1, {"b": 2}]}, ("a[1].b", "1", "2")),
        ({"a": [1]}, {"a": [1, 2]}, ("number of a", "1", "2")),
        ({"a": 1}, {"a": 1, "c": None}, ("c", "absent", "null")),
        ({"a": 1.0}, {"a": 1}, ("a", "1.0", "1")),
        ({"a": "x" * 100}, {"a": ""}, ("a", '"' + "x" * 76 + "...", '""')),
        ({"a": {"b": (1, 2)}}, {"a": {"b": [1, 2]}}, None),
    ],
)
def test_two_trees(ours: object, theirs: object, found: tuple[str, str, str] | None) -> None:
    assert first_difference(ours, theirs) == found
