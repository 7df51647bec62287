"""Replacing parts of a live model: what is kept is the same object, what is refused changes nothing."""

import msgspec
import pytest
import torch
from torch import nn

from lamoid.assembly.attention import AttentionSpec, HeadNormSpec
from lamoid.assembly.block import BlockSpec, SandwichSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import LayerNormSpec, RMSNormSpec
from lamoid.assembly.position import LearnedPositionSpec
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import replace, transplant
from lamoid.assembly.surgery_sharing import untie
from lamoid.assembly.task_heads import ClassesSpec
from lamoid.assembly.wiring import ParallelSpec, ProjectSpec, SerialSpec
from lamoid.errors import InputError

ATTENTION = AttentionSpec(heads=4, kv_heads=2, head_width=4)
BLOCK = BlockSpec(ATTENTION, GatedSpec(hidden=24))
IDS = torch.arange(12).view(2, 6)


def make_model(*blocks: object, seed: int = 3, sharing: tuple[ShareSpec, ...] = ()) -> LanguageModel:
    spec = ModelSpec(
        width=16,
        vocab=13,
        context=8,
        blocks=blocks or (BLOCK,) * 3,  # type: ignore[arg-type]
        heads={"next_token": NextTokenSpec(linear=TiedSpec())},
        sharing=sharing,
    )
    model = LanguageModel(spec)
    initialise(model, seed, deviation=0.3)
    return model


def snapshot(model: LanguageModel) -> dict[str, tuple[nn.Parameter, torch.Tensor]]:
    named = model.named_parameters(remove_duplicate=False)
    return {name: (parameter, parameter.detach().clone()) for name, parameter in named}


def assert_unchanged(model: LanguageModel, spec: ModelSpec, before: dict) -> None:
    now = dict(model.named_parameters(remove_duplicate=False))
    assert model.spec == spec
    assert list(now) == list(before)
    assert all(now[name] is parameter and torch.equal(now[name], value) for name, (parameter, value) in before.items())


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("blocks.1.mixer", LSTMSpec(hidden=16)),
        ("blocks.1.mixer", {"kind": "lstm", "hidden": 16}),
        ("blocks.1.feedforward", PlainSpec(hidden=8)),
        ("blocks.1", BlockSpec(LSTMSpec(hidden=4), GatedSpec(hidden=24))),
        ("blocks.2", SerialSpec((BLOCK, BLOCK))),
        ("blocks.0", ParallelSpec({"a": BLOCK, "b": SerialSpec((BLOCK, ProjectSpec(16)))})),
        ("blocks.0.norm_mixer", LayerNormSpec()),
        ("blocks.0.order", SandwichSpec()),
        ("blocks.0.mixer.query_key_norm", HeadNormSpec(RMSNormSpec())),
        ("norm", RMSNormSpec(unit_offset=True)),
        ("embedding", EmbeddingSpec(positions=LearnedPositionSpec())),
        ("heads.next_token", NextTokenSpec()),
        ("heads", {"next_token": NextTokenSpec(linear=TiedSpec()), "mood": ClassesSpec(count=2)}),
        ("blocks", (BLOCK,) * 5),
    ],
)
def test_what_stands_outside_is_the_same_object_bit_for_bit(path: str, part: object) -> None:
    model = make_model()
    before, old = snapshot(model), model.spec
    change = replace(model, path, part, seed=5)
    now = dict(model.named_parameters())
    assert model.spec == change.spec != old
    assert {*change.kept} | {*change.removed} == {*before}
    assert {*change.kept.values()} | {*change.added} == {*now}
    assert not {*change.kept} & {*change.removed}
    assert not {*change.kept.values()} & {*change.added}
    assert all(name.startswith(path.removesuffix(".order").removesuffix(".query_key_norm")) for name in change.removed)
    for name, (parameter, value) in before.items():
        if name in change.kept:
            assert now[change.kept[name]] is parameter
            assert torch.equal(parameter, value)
        if not name.startswith(f"{path}."):
            assert change.kept[name] == name
    twin = LanguageModel(change.spec)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model(IDS), twin(IDS))
    assert sum(parameter.numel() for parameter in model.parameters()) == model.spec.parameters()


def test_a_part_of_another_kind_keeps_nothing_by_chance() -> None:
    model = make_model()
    assert model.get_parameter("blocks.1.mixer.output.weight").shape == (16, 16)
    change = replace(model, "blocks.1.mixer", LSTMSpec(hidden=16))
    assert "blocks.1.mixer.output.weight" in {*change.added} & {*change.removed}


def test_a_part_of_the_same_kind_keeps_what_fits() -> None:
    model = make_model()
    change = replace(model, "blocks.1.mixer", msgspec.structs.replace(ATTENTION, kv_heads=1))
    assert {*change.added} == {"blocks.1.mixer.key.weight", "blocks.1.mixer.value.weight"}
    other = replace(make_model(), "blocks.1.feedforward", GatedSpec(hidden=24, activation="gelu"))
    assert (other.added, other.removed) == ((), ())


def test_new_numbers_are_drawn_by_the_seed_alone() -> None:
    drawn = []
    for seed in (5, 5, 6):
        torch.rand(3)
        model = make_model()
        replace(model, "blocks.1.mixer", LSTMSpec(hidden=16), seed=seed)
        drawn.append(model.get_parameter("blocks.1.mixer.cells.0.input.weight"))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_modules_that_stay_are_the_same_modules_and_the_others_take_over_the_mode() -> None:
    model = make_model().eval()
    stays, goes = model.blocks[0], model.blocks[1]
    replace(model, "blocks.1.mixer", LSTMSpec(hidden=16))
    assert model.blocks[0] is stays
    assert model.blocks[1] is not goes
    assert not any(module.training for module in model.modules())


def test_dtype_is_taken_over() -> None:
    model = make_model().to(torch.bfloat16)
    replace(model, "blocks.1.feedforward", PlainSpec(hidden=8))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("path", "part", "message"),
    [
        ("blocks.3.mixer", LSTMSpec(hidden=16), "blocks has no part '3'"),
        ("blocks.1.mixture", LSTMSpec(hidden=16), "has no part 'mixture'"),
        ("heads.mood", ClassesSpec(count=2), "no part 'mood'"),
        ("blocks.1.mixer", GatedSpec(hidden=24), "'gated' is not known here"),
        ("blocks.1.mixer", {"kind": "lsmt", "hidden": 4}, "the nearest is lstm"),
        ("blocks.1.mixer", 4, "must be a table"),
        ("blocks.1.mixer", object(), "is no spec"),
        ("blocks.1", ProjectSpec(8), "is tied to embedding.tokens, whose rows have 16 numbers, and is given 8"),
        ("blocks.1", ParallelSpec({"a": BLOCK, "b": ProjectSpec(8)}), "gives 8 numbers a token"),
        ("blocks.1.mixer", {"kind": "attention", "heads": 4, "kv_heads": 3, "head_width": 4}, "does not divide heads"),
        ("width", 32, "would turn from 13 x 16 to 13 x 32"),
        ("blocks.1.mixer.kv_heads", 1, "mixer.key.weight: would turn from"),
        ("sharing", (ShareSpec(("blocks.*.mixture",)),), "matches no module"),
    ],
)
def test_what_cannot_stand_there_is_refused_and_changes_nothing(path: str, part: object, message: str) -> None:
    model = make_model()
    before, spec = snapshot(model), model.spec
    with pytest.raises(InputError, match=message):
        replace(model, path, part)
    assert_unchanged(model, spec, before)


def test_a_width_that_no_longer_fits_names_the_parameter_and_both_shapes() -> None:
    model = make_model(BLOCK, ProjectSpec(16), BLOCK)
    replace(model, "heads.next_token", NextTokenSpec())
    before, spec = snapshot(model), model.spec
    with pytest.raises(InputError, match=r"blocks.2.\S+: would turn from 16 to 8 numbers"):
        replace(model, "blocks.1", ProjectSpec(8))
    assert_unchanged(model, spec, before)


def test_a_failure_while_numbers_are_set_changes_nothing() -> None:
    model = make_model()
    before, spec = snapshot(model), model.spec

    def fail(new: object, old: object) -> None:
        raise ZeroDivisionError

    fresh = LanguageModel(msgspec.structs.replace(spec, blocks=(BLOCK, BLOCK)))
    with pytest.raises(ZeroDivisionError):
        transplant(model, fresh, fill=fail)
    assert_unchanged(model, spec, before)


def test_a_shared_part_is_replaced_for_all_or_not_at_all() -> None:
    model = make_model(sharing=(ShareSpec(("blocks.*.feedforward",)),))
    before, spec = snapshot(model), model.spec
    with pytest.raises(InputError, match="Share modules of the same spec"):
        replace(model, "blocks.1.feedforward", GatedSpec(hidden=8))
    assert_unchanged(model, spec, before)
    change = replace(model, "blocks", (BlockSpec(ATTENTION, GatedSpec(hidden=8)),) * 3)
    assert {*change.added} == {f"blocks.0.feedforward.{name}.weight" for name in ("gate", "up", "down")}
    assert model.blocks[2].feedforward.up.weight is model.blocks[0].feedforward.up.weight  # type: ignore[union-attr]


def test_a_copy_of_a_frozen_parameter_is_frozen() -> None:
    model = make_model(sharing=(ShareSpec(("blocks.*.feedforward",)),)).requires_grad_(False)
    untie(model, "sharing.0")
    assert not any(parameter.requires_grad for parameter in model.parameters())
