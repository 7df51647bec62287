"""Filters and gradients give what mergekit's own evaluation gives; a member's own value counts before that of all."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.fusion.rules.rule import Options, Rule
from lamoid.recipes.fusion_recipe import Filtered, MemberTable, Setting
from lamoid.recipes.fusion_settings import find_places, make_settings, resolve
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder, save_model


class Some(Options, frozen=True, rename={"lambda_": "lambda"}):
    """Options of a rule that is made up."""

    density: float | list[float] = 0.2
    lambda_: float = 1.0
    normalize: bool = False

    def __post_init__(self) -> None:
        for density in self.density if isinstance(self.density, list) else [self.density]:
            if not 0.0 < density <= 1.0:
                raise ValueError(f"density is {density}, must lie in (0, 1]")


RULE = Rule(plan=lambda *_: lambda piece: piece.members[0], says="Made up.", options=Some)


@pytest.mark.parametrize(
    "setting",
    [
        0.3,
        [0.0, 1.0],
        [0.0, 0.5, 0.25],
        [{"filter": "mlp", "value": [0.1, 0.9]}, {"value": 0.5}],
        [{"filter": "attn", "value": 1.0}],
        [True, False],
        [],
    ],
)
@pytest.mark.parametrize("tensor", ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"])
@pytest.mark.parametrize("place", [0.0, 1.0 / 3.0, 0.5, 1.0])
def test_as_mergekit_evaluates_it(setting: Any, tensor: str, place: float) -> None:
    config = pytest.importorskip("mergekit.config")
    theirs = (
        [config.ConditionalParameter(**e) if isinstance(e, dict) else e for e in setting]
        if isinstance(setting, list)
        else setting
    )
    ours: Setting = msgspec.convert(setting, Setting)
    expected = config.evaluate_setting(tensor, theirs, place, validate=lambda value: value)
    found = resolve(ours, tensor, place)
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_a_member_before_all_and_all_before_the_default() -> None:
    members = [MemberTable("a", weight=[0.0, 1.0], options={"density": 0.5}), MemberTable("b")]
    settings = make_settings(RULE, members, {"lambda": [1.0, 3.0]}, {"first": 0.0, "last": 1.0}.__getitem__)
    weights, options = settings("last")
    assert (weights, options) == ([1.0, 1.0], Some(density=[0.5, 0.2], lambda_=3.0))
    assert settings("first") == ([0.0, 1.0], Some(density=[0.5, 0.2], lambda_=1.0))
    given = make_settings(RULE, members, {"density": 0.4}, lambda _: 0.0, weights=[0.25, 0.75])
    assert given("x") == ([0.25, 0.75], Some(density=[0.5, 0.4]))


@pytest.mark.parametrize(
    ("member", "options", "said"),
    [
        (MemberTable("a"), {"densty": 1}, "options.densty"),
        (MemberTable("a", options={"lambda": 2}), {}, "one number for all members"),
        (MemberTable("a"), {"density": 0.0}, "density is 0.0, must lie in"),
        (MemberTable("a"), {"density": "much"}, "density"),
        (MemberTable("a", weight=[Filtered(1.0, "mlp")]), {}, "no filter that fits"),
        (MemberTable("a", weight="heavy"), {}, "'heavy'"),
        (MemberTable("a"), {"density": [Filtered(1.0), 0.5]}, "filters beside plain values"),
    ],
)
def test_what_does_not_fit_is_named(member: MemberTable, options: dict[str, Setting], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        make_settings(RULE, [member], options, lambda _: 0.0)("attn")


def test_places_go_from_the_first_block_to_the_last(tmp_path: Path) -> None:
    model = LanguageModel(Shape(width=8, layers=3, heads=2, kv_heads=2, context=8, tied=False).spec(20))
    initialise(model, 0)
    with durable_folder(tmp_path / "m") as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    folder = open_folder(tmp_path / "m")
    ends = {after: find_places(folder, after=after)("lm_head.weight") for after in ("last", "first")}
    assert ends == {"last": 1.0, "first": 0.0}
    place_of = find_places(folder)
    assert [place_of(f"model.layers.{i}.mlp.up_proj.weight") for i in range(3)] == [0.0, 0.5, 1.0]
    assert place_of("model.embed_tokens.weight") == 0.0
