"""Rules over the linear maps of a spec: which a pattern names, and that nothing else changes."""

import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.rewrite import linear_maps, rewrite, targets
from lamoid.errors import InputError

LLAMA = Shape(width=16, layers=4, heads=2, context=32).spec(40)
T5 = Shape(family="t5", width=16, layers=2, heads=2, context=32).spec(40)


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (["query"], 4),
        (["mixer.query", "query"], 4),
        (["all"], 28),
        (["mixer.*"], 16),
        (["blocks.:2.mixer.value"], 2),
        (["blocks.1::2.feedforward.*"], 6),
        (["blocks.3.mixer.query", "linear"], 2),
    ],
)
def test_a_pattern_is_the_end_of_a_path(patterns: list[str], count: int) -> None:
    found = targets(LLAMA, patterns)
    assert len(found) == len(set(found)) == count
    assert found == [path for path, _ in linear_maps(LLAMA) if path in found]


def test_patterns_reach_into_stacks() -> None:
    assert len(targets(T5, ["query"])) == 6, "two in the encoder, two of each kind in the decoder"


@pytest.mark.parametrize(
    "pattern", ["q_proj", "(a+)+$", ".*", "", "blocks.-1:.mixer.query", "blocks.::0.mixer.query", "uery"]
)
def test_what_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(InputError):
        targets(LLAMA, [pattern])


def test_a_rule_that_changes_nothing_gives_the_same_object() -> None:
    assert rewrite(LLAMA, lambda path, linear: linear) is LLAMA


def test_a_rule_changes_only_what_it_says() -> None:
    biased = rewrite(LLAMA, lambda path, linear: DenseSpec(True) if path == "blocks.2.mixer.key" else linear)
    assert biased.blocks[2].mixer.key == DenseSpec(True)
    assert [block == other for block, other in zip(biased.blocks, LLAMA.blocks, strict=True)] == [
        True,
        True,
        False,
        True,
    ]
