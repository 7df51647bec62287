"""Tie and untie in a live group: who stays, who goes, who is a copy of whom, and what the spec says afterwards."""

import pytest
import torch

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.group import GroupSpec, ModelGroup, initialise_group
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.tying import become, tie, untie
from lamoid.errors import InputError

BLOCKS, TABLES = ShareSpec(("*.blocks",)), ShareSpec(("*.embedding",))


def make_spec(*rules: ShareSpec, layers: int = 2) -> ModelSpec:
    block = BlockSpec(mixer=AttentionSpec(heads=2, head_width=8), feedforward=GatedSpec(24))
    return ModelSpec(16, 13, 12, blocks=(block,) * layers, heads={"next_token": NextTokenSpec()}, sharing=rules)


def make_group(*rules: ShareSpec, own: tuple[ShareSpec, ...] = ()) -> ModelGroup:
    group = ModelGroup(GroupSpec({"a": make_spec(*own), "b": make_spec()}, rules))
    initialise_group(group, 1)
    with torch.no_grad():
        for parameter in group.member("b").parameters():
            parameter.mul_(1.5)
    return group


def test_a_tie_keeps_the_first_and_removes_the_others() -> None:
    group = make_group()
    before = dict(group.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in before.items()}
    change = tie(group, BLOCKS)
    after = dict(group.named_parameters())
    assert change.removed == tuple(name for name in before if name.startswith("b.blocks."))
    assert len(change.removed) == 18
    assert (change.added, change.copied, change.is_preserving) == ((), {}, False)
    assert change.kept == {name: name for name in after}
    assert all(before[name] is after[name] and torch.equal(values[name], after[name]) for name in after)
    assert group.spec.sharing == (BLOCKS,)
    assert group.spec.parameters() == sum(parameter.numel() for parameter in after.values())
    assert group.member("b").get_parameter("blocks.1.mixer.query.weight") is after["a.blocks.1.mixer.query.weight"]


def test_an_untie_changes_no_answer_and_copies_what_was_shared() -> None:
    group = make_group(TABLES, BLOCKS)
    ids = torch.arange(12)[None]
    answers = [group.member(name)(ids) for name in "ab"]
    before = dict(group.named_parameters())
    change = untie(group, BLOCKS)
    after = dict(group.named_parameters())
    assert change.copied == {f"b.{name}": f"a.{name}" for name in (key[2:] for key in before) if "blocks" in name}
    assert set(change.added) == set(change.copied) == set(after) - set(before)
    assert (change.removed, change.is_preserving) == ((), True)
    assert [torch.equal(group.member(name)(ids), answer) for name, answer in zip("ab", answers, strict=True)] == [
        True
    ] * 2
    assert group.spec.sharing == (TABLES,)
    assert group.spec.parameters() == sum(parameter.numel() for parameter in after.values())


def test_a_tie_within_one_member_stands_in_its_spec_until_it_is_untied() -> None:
    group, rule = make_group(), ShareSpec(("a.blocks.*",))
    tie(group, rule)
    assert group.member("a").spec.sharing == (ShareSpec(("blocks.0", "blocks.1")),)
    assert group.member("b").spec.sharing == ()
    untie(group, rule)
    assert group.member("a").spec == make_spec()


def test_what_is_shared_inside_of_a_module_stays_shared_when_it_is_untied() -> None:
    group = make_group(ShareSpec(("*.norm",)))
    own = ShareSpec(("b.blocks.*",))
    tie(group, own)
    tie(group, TABLES)
    untie(group, TABLES)
    blocks = group.member("b").blocks
    assert blocks[0].mixer.query.weight is blocks[1].mixer.query.weight
    assert group.member("a").embedding.tokens.weight is not group.member("b").embedding.tokens.weight


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (ShareSpec(("*.blocks.0",)), "tie: .* falls under the rule sharing.0"),
        (BLOCKS, "tie: .* falls under the rule sharing.0"),
        (ShareSpec(("a.blocks.*.mixer", "b.blocks")), "tie.* falls under|tie: .* is not there"),
        (ShareSpec(("*.nothing",)), "tie.paths: '\\*.nothing' matches no module"),
        (ShareSpec(("a.norm",)), "tie.paths: match 'a.norm' alone"),
        (ShareSpec(("a", "a.norm")), "circle"),
    ],
)
def test_a_tie_that_cannot_be_leaves_everything_as_it_was(rule: ShareSpec, problem: str) -> None:
    group = make_group(BLOCKS)
    before, spec = dict(group.named_parameters()), group.spec
    with pytest.raises(InputError, match=problem):
        tie(group, rule)
    assert group.spec == spec
    assert [*before.items()] == [*group.named_parameters()]


def test_a_tie_against_a_members_own_rule_is_refused() -> None:
    group = make_group(own=(ShareSpec(("blocks.*",)),))
    with pytest.raises(InputError, match=r"falls under the rule models\.a\.sharing\.0"):
        tie(group, ShareSpec(("*.blocks.0",)))


def test_only_a_rule_that_holds_is_untied() -> None:
    with pytest.raises(InputError, match=r"no rule that holds now. Untie a rule that holds: \*.blocks"):
        untie(make_group(BLOCKS), TABLES)


def test_a_group_becomes_what_a_spec_says() -> None:
    group, wanted = make_group(BLOCKS), make_group(TABLES)
    assert len(list(become(group, wanted.spec))) == 2
    assert group.spec == wanted.spec
    assert [name for name, _ in group.named_parameters()] == [name for name, _ in wanted.named_parameters()]
    other = GroupSpec({"a": make_spec(layers=1), "b": make_spec()})
    with pytest.raises(InputError, match="are not those of this group"):
        list(become(group, other))
