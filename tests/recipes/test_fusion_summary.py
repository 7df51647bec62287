"""What a fusion's report says besides the table."""

from types import SimpleNamespace

import pytest

from lamoid.recipes.fusion_summary import _overtaken
from lamoid.recipes.fusion_trial import FUSED, UNIFORM


@pytest.mark.parametrize(
    ("base", "uniform", "said"),
    [
        (2.0, 2.0, []),
        (1.5, 1.5, []),
        (1.4, 2.0, ["the base (1.4000)"]),
        (2.0, 1.2, ["the uniform average (1.2000)"]),
        (1.4, 1.2, ["the base (1.4000)", "the uniform average (1.2000)"]),
    ],
)
def test_base_and_uniform_average_are_named_where_they_are_lower(base, uniform, said):
    plan = SimpleNamespace(base=SimpleNamespace(path="b"))
    losses = {FUSED: 1.5, UNIFORM: uniform, "b": base}
    figures = {name: SimpleNamespace(nats_per_token=loss) for name, loss in losses.items()}
    notes = _overtaken(plan, figures)
    assert len(notes) == bool(said)
    for part in ("the base (", "the uniform average ("):
        assert any(part in note for note in notes) == any(word.startswith(part) for word in said)
    for word in said:
        assert word in notes[0]
