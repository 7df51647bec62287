"""Moves: those that preserve leave the logits where they were, over kinds of models; the others say so."""

from collections.abc import Callable

import msgspec
import pytest
import torch

from lamoid.assembly.attention import AttentionSpec, FullNormSpec, HeadNormSpec, QueryKeyNormSpec
from lamoid.assembly.bias import RelativeSpec
from lamoid.assembly.block import (
    BlockSpec,
    NoMixerSpec,
    OrderSpec,
    OutputSpec,
    ParallelOrderSpec,
    PostSpec,
    PreSpec,
    SandwichSpec,
)
from lamoid.assembly.convolution import ConvolutionSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, NoFeedForwardSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec, NormSpec, RMSNormSpec
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import Change
from lamoid.assembly.surgery_moves import add_expert, insert, set_gate, set_kv_heads, to_experts, widen
from lamoid.assembly.surgery_sharing import tie, untie
from lamoid.assembly.wiring import GateSpec, ParallelSpec, SerialSpec
from lamoid.errors import InputError

BIASED = DenseSpec(bias=True)
ATTENTION = AttentionSpec(heads=4, kv_heads=2, head_width=4)
GATED = GatedSpec(hidden=24, gate=BIASED, up=BIASED, down=BIASED)
PLAIN = PlainSpec(hidden=20, up=BIASED, down=BIASED)
MIXTURE = ExpertsSpec(experts=(PLAIN, GATED, PlainSpec(hidden=8)), shared=GATED)
ORDERS = {
    "pre": PreSpec(),
    "post": PostSpec(),
    "output": OutputSpec(),
    "parallel": ParallelOrderSpec(),
    "sandwich": SandwichSpec(RMSNormSpec(unit_offset=True), LayerNormSpec()),
}
NORMS = {"rms": RMSNormSpec(), "unit": RMSNormSpec(unit_offset=True), "layer": LayerNormSpec(), "none": NoNormSpec()}
IDS = torch.randint(0, 31, (3, 9), generator=torch.Generator().manual_seed(0))


def make_model(
    *blocks: object, sharing: tuple[ShareSpec, ...] = (), head: NextTokenSpec | None = None
) -> LanguageModel:
    heads = {"next_token": NextTokenSpec(linear=TiedSpec(bias=True))}
    spec = ModelSpec(width=16, vocab=31, context=16, blocks=blocks, heads=heads, sharing=sharing)  # type: ignore[arg-type]
    model = LanguageModel(spec)
    initialise(model, 3, deviation=0.3)
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():  # so that no bias is 0 and no gain is 1
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def assert_preserving(model: LanguageModel, move: Callable[[LanguageModel], Change]) -> Change:
    """Make a move and see that the logits stay, and that a model made of the new spec answers alike."""
    before = {name: (parameter, parameter.detach().clone()) for name, parameter in model.named_parameters()}
    logits, count = model(IDS), model.spec.parameters()
    assert logits.std() > 0.3
    change = move(model)
    now = dict(model.named_parameters())
    torch.testing.assert_close(model(IDS), logits, rtol=0, atol=1e-5)
    assert change.is_preserving
    assert all(now[new] is before[old][0] for old, new in change.kept.items())
    assert all(torch.equal(parameter, value) for parameter, value in before.values())
    assert all(torch.equal(now[new], before[old][1]) for new, old in change.copied.items())
    assert {*now} == {*change.kept.values(), *change.added}
    assert {*before} == {*change.kept, *change.removed}
    assert sum(parameter.numel() for parameter in model.parameters()) == model.spec.parameters() > 0
    assert model.spec.parameters() >= count
    model(IDS).square().mean().backward()
    return change


@pytest.mark.parametrize("part", [PLAIN, GATED, PlainSpec(hidden=8, activation="sigmoid")])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_widening_preserves(part: PlainSpec | GatedSpec, order: OrderSpec) -> None:
    model = make_model(*(BlockSpec(ATTENTION, part, order=order),) * 2)
    change = assert_preserving(model, lambda model: widen(model, "blocks.1.feedforward", 40, seed=5))
    assert all(name.startswith("blocks.1.feedforward.") for name in change.added)
    new = model.get_parameter("blocks.1.feedforward.down.weight")
    assert torch.count_nonzero(new[:, part.hidden :]) == 0
    assert new.grad is not None
    assert torch.count_nonzero(new.grad[:, part.hidden :]) > 0, "the new units learn from the first step on"


def test_widening_experts_and_every_place_of_a_pattern() -> None:
    model = make_model(BlockSpec(ATTENTION, MIXTURE), BlockSpec(ATTENTION, MIXTURE))
    assert_preserving(model, lambda model: widen(model, "blocks.*.feedforward.experts.*", 32))
    assert [expert.hidden for expert in model.spec.blocks[1].feedforward.experts] == [32, 32, 32]  # type: ignore[union-attr]
    assert_preserving(model, lambda model: widen(model, "blocks.0.feedforward.shared", 32))


def test_widening_what_is_shared_widens_it_once() -> None:
    model = make_model(*(BlockSpec(ATTENTION, GATED),) * 3, sharing=(ShareSpec(("blocks.*.feedforward",)),))
    change = assert_preserving(model, lambda model: widen(model, "blocks.*.feedforward", 30))
    assert all(name.startswith("blocks.0.feedforward.") for name in change.added)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(
    ("mixer", "feedforward"),
    [
        (msgspec.structs.replace(ATTENTION, output=BIASED), GATED),
        (LSTMSpec(hidden=8), MIXTURE),
        (ConvolutionSpec(kernel=3), NoFeedForwardSpec()),
        (NoMixerSpec(), PLAIN),
    ],
    ids=["attention", "lstm and experts", "convolution", "no mixer"],
)
def test_inserting_a_block_preserves_but_in_post_norm_order(
    mixer: AttentionSpec, feedforward: GatedSpec, order: OrderSpec, norm: NormSpec
) -> None:
    if isinstance(order, SandwichSpec) and norm != RMSNormSpec():
        order = SandwichSpec(norm, norm)
    new = BlockSpec(mixer, feedforward, norm_mixer=norm, norm_feedforward=norm, order=order)
    model = make_model(BlockSpec(ATTENTION, GATED), BlockSpec(ATTENTION, GATED))
    if isinstance(order, PostSpec):
        spec = model.spec
        with pytest.raises(InputError, match=r"blocks\.1\.order: normalises the stream"):
            insert(model, "blocks.1", new)
        assert model.spec == spec
        return
    change = assert_preserving(model, lambda model: insert(model, "blocks.1", new, seed=5))
    assert {old: new for old, new in change.kept.items() if old != new} == {
        old: old.replace("blocks.1.", "blocks.2.") for old in change.kept if old.startswith("blocks.1.")
    }
    learning = [parameter.grad for parameter in model.blocks[1].parameters() if parameter.grad is not None]
    assert any(torch.count_nonzero(gradient) for gradient in learning)
    assert all(gradient.abs().max() < 100 for gradient in learning), "no slope of 1 / sqrt(epsilon)"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_inserting_at_every_place_and_inside_of_a_branch(place: int) -> None:
    block = BlockSpec(ATTENTION, GATED)
    inner = ParallelSpec({"a": SerialSpec((block, block)), "b": block}, merge=GateSpec())
    model = make_model(inner, block)
    assert_preserving(model, lambda model: insert(model, f"blocks.0.branches.a.blocks.{place}"))
    assert_preserving(model, lambda model: insert(model, "blocks.2"))
    with pytest.raises(InputError, match=r"blocks\.0: is to be a ParallelSpec"):
        insert(model, "blocks.0")
    assert len(model.spec.blocks) == 3


@pytest.mark.parametrize("paths", [("blocks.*.feedforward",), ("blocks.1.mixer", "blocks.2.mixer"), ("blocks.::2",)])
def test_rules_of_sharing_follow_their_modules_past_an_insertion(paths: tuple[str, ...]) -> None:
    model = make_model(*(BlockSpec(ATTENTION, GATED),) * 3, sharing=(ShareSpec(paths),))
    tensors = len(list(model.parameters()))
    change = assert_preserving(model, lambda model: insert(model, "blocks.1"))
    assert len(change.added) == len(list(model.blocks[1].parameters())), "the new block's are its own"
    assert len(list(model.parameters())) == tensors + len(change.added)
    assert change.removed == ()


@pytest.mark.parametrize(
    "norm",
    [HeadNormSpec(RMSNormSpec()), FullNormSpec(RMSNormSpec()), FullNormSpec(LayerNormSpec())],
    ids=["per head", "full width", "full width, layer norm"],
)
@pytest.mark.parametrize("order", [PreSpec(), PostSpec()])
def test_more_key_heads_by_copying_preserve(norm: QueryKeyNormSpec, order: OrderSpec) -> None:
    some = AttentionSpec(heads=8, kv_heads=2, head_width=4, query_key_norm=norm, key=BIASED, value=BIASED)
    model = make_model(BlockSpec(some, GATED, order=order), BlockSpec(ATTENTION, GATED, order=order))
    change = assert_preserving(model, lambda model: set_kv_heads(model, "blocks.0.mixer", 4))
    assert all(name.startswith(("blocks.0.mixer.key", "blocks.0.mixer.value")) for name in change.added)
    assert_preserving(model, lambda model: set_kv_heads(model, "blocks.0.mixer", 8))


def test_all_layers_at_once_with_a_bias_by_distance() -> None:
    some = msgspec.structs.replace(ATTENTION, position=RelativeSpec())
    model = make_model(*(BlockSpec(some, GATED),) * 2)
    assert_preserving(model, lambda model: set_kv_heads(model, "blocks.*.mixer", 4))


def test_fewer_key_heads_are_averages_of_neighbours_and_no_preserving_move() -> None:
    model = make_model(BlockSpec(msgspec.structs.replace(ATTENTION, kv_heads=4), GATED))
    old = model.get_parameter("blocks.0.mixer.key.weight").detach().clone()
    change = set_kv_heads(model, "blocks.0.mixer", 2)
    assert not change.is_preserving
    new = model.get_parameter("blocks.0.mixer.key.weight")
    torch.testing.assert_close(new[:4], (old[:4] + old[4:8]) / 2)
    torch.testing.assert_close(new[4:], (old[8:12] + old[12:]) / 2)
    logits = model(IDS)
    set_kv_heads(model, "blocks.0.mixer", 4)
    torch.testing.assert_close(model(IDS), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", [PLAIN, GATED])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_dense_to_experts_preserves(part: PlainSpec | GatedSpec, order: OrderSpec) -> None:
    model = make_model(*(BlockSpec(ATTENTION, part, order=order),) * 2)
    change = assert_preserving(model, lambda model: to_experts(model, "blocks.*.feedforward", 4, chosen=2, seed=5))
    assert change.kept["blocks.1.feedforward.up.weight"] == "blocks.1.feedforward.experts.0.up.weight"
    assert change.copied["blocks.1.feedforward.experts.3.up.weight"] == "blocks.1.feedforward.up.weight"
    drawn = {*change.added} - {*change.copied}
    assert drawn == {f"blocks.{layer}.feedforward.router.weight" for layer in (0, 1)}


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("router", [DenseSpec(), BIASED])
def test_a_new_expert_far_below_preserves_and_is_raised(normalised: bool, router: DenseSpec) -> None:
    mixture = msgspec.structs.replace(MIXTURE, router=router, normalised=normalised)
    model = make_model(BlockSpec(ATTENTION, mixture), BlockSpec(ATTENTION, GATED))
    assert_preserving(model, lambda model: add_expert(model, "blocks.0.feedforward", GatedSpec(hidden=8), seed=5))
    assert len(model.spec.blocks[0].feedforward.experts) == 4  # type: ignore[union-attr]
    bias, logits = model.get_parameter("blocks.0.feedforward.router.bias"), model(IDS)
    set_gate(bias, 3, 0.0)
    torch.testing.assert_close(bias[3], bias[:3].mean())
    assert not torch.allclose(model(IDS), logits, atol=1e-3), "raised, it is picked for some tokens"
    set_gate(bias, 3, 30.0)
    torch.testing.assert_close(model(IDS), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("untied", ["sharing.0", "blocks.0.feedforward", "blocks.2.feedforward"])
def test_untying_preserves_and_copies(untied: str) -> None:
    model = make_model(*(BlockSpec(ATTENTION, GATED),) * 3, sharing=(ShareSpec(("blocks.*.feedforward",)),))
    change = assert_preserving(model, lambda model: untie(model, untied))
    assert {*change.copied} == {*change.added}
    modules = [block.feedforward for block in model.blocks]
    same = [a.up.weight is b.up.weight for a, b in ((modules[0], modules[1]), (modules[1], modules[2]))]  # type: ignore[union-attr]
    wanted = {"sharing.0": [False, False], "blocks.0.feedforward": [False, True], "blocks.2.feedforward": [True, False]}
    assert same == wanted[untied]


def test_the_last_two_untied_end_their_rule() -> None:
    model = make_model(*(BlockSpec(ATTENTION, GATED),) * 2, sharing=(ShareSpec(("blocks.*.mixer",)),))
    assert_preserving(model, lambda model: untie(model, "blocks.0.mixer"))
    assert model.spec.sharing == ()


def test_a_tied_head_is_split_from_the_table() -> None:
    model = make_model(BlockSpec(ATTENTION, GATED))
    change = assert_preserving(model, lambda model: untie(model, "heads.next_token"))
    assert change.copied == {"heads.next_token.linear.weight": "embedding.tokens.weight"}
    assert change.kept["heads.next_token.bias"] == "heads.next_token.linear.bias"
    with pytest.raises(InputError, match="is not tied"):
        untie(model, "heads.next_token")


def test_tying_leaves_the_first_and_untying_takes_nothing_back() -> None:
    model = make_model(*(BlockSpec(ATTENTION, GATED),) * 2)
    first = dict(model.blocks[0].mixer.named_parameters())  # type: ignore[union-attr]
    change = tie(model, ["blocks.*.mixer"])
    assert not change.is_preserving
    assert change.added == ()
    assert {*change.removed} == {f"blocks.1.mixer.{name}" for name in first}
    assert all(model.get_parameter(f"blocks.1.mixer.{name}") is parameter for name, parameter in first.items())
    assert_preserving(model, lambda model: untie(model, "blocks.1.mixer"))


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda model: widen(model, "blocks.0.feedforward", 24), "blocks.0.feedforward.hidden: is 24, asked for 24"),
        (lambda model: widen(model, "blocks.0.mixer", 99), "blocks.0.mixer: is attention, must be plain or gated"),
        (lambda model: widen(model, "blocks.9.feedforward", 99), "blocks has no part '9'"),
        (lambda model: widen(model, "blocks.*.nothing", 99), "has no part"),
        (lambda model: set_kv_heads(model, "blocks.0.mixer", 3), "kv_heads: is 2, asked for 3"),
        (lambda model: set_kv_heads(model, "blocks.0.mixer", 8), "is 8, must lie from 1 to 4"),
        (lambda model: set_kv_heads(model, "blocks.0.mixer", 0), "must lie from 1"),
        (lambda model: to_experts(model, "blocks.0.feedforward", 1), "experts.chosen: is 2, must lie from 1 to 1"),
        (lambda model: add_expert(model, "blocks.0.feedforward"), "is gated, must be experts"),
        (lambda model: insert(model, "blocks.3"), "blocks.3: names no place in a list of blocks"),
        (lambda model: insert(model, "blocks.one"), "write blocks.N, N being 0 to 2|Write blocks.N, N being 0 to 2"),
        (lambda model: insert(model, "heads.0"), "names no place in a list of blocks"),
        (lambda model: untie(model, "blocks.0.mixer"), "is no module of a sharing rule"),
        (lambda model: untie(model, "sharing.0"), "has no part '0'"),
        (lambda model: tie(model, ["blocks.0.mixer"]), "alone"),
        (lambda model: tie(model, ["blocks.0.mixer", "blocks.0.feedforward"]), "[Ss]hare modules of the same spec"),
    ],
)
def test_a_move_that_cannot_be_made_is_refused_and_changes_nothing(
    move: Callable[[LanguageModel], Change], message: str
) -> None:
    model = make_model(*(BlockSpec(ATTENTION, GATED),) * 2)
    before, spec = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}, model.spec
    with pytest.raises(InputError, match=message):
        move(model)
    assert model.spec == spec
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("path", ["blocks.00002", "blocks.٢", "blocks.-1", "blocks.4", "blocks.", "norm.0", ""])
def test_a_block_is_inserted_at_a_place_written_plainly(path: str) -> None:
    model = make_model(BlockSpec(ATTENTION, GATED), BlockSpec(ATTENTION, GATED), BlockSpec(ATTENTION, GATED))
    with pytest.raises(InputError, match=r"no place in a list of blocks|has no part"):
        insert(model, path)
    assert len(model.spec.blocks) == 3
