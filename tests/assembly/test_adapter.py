"""Adapters in the model: a fresh one changes nothing, rows choose theirs, weights add up, and arithmetic is exact."""

import pytest
import torch

from lamoid.assembly.adapter import DoraSpec, LoraSpec, LowRankSpec
from lamoid.assembly.adapter_merge import merged, refitted
from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import token_nats
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.rewrite import adapt, linear_maps, targets, without_adapters
from lamoid.assembly.spec import ModelSpec, decode_spec, encode_spec
from lamoid.assembly.surgery import replace
from lamoid.assembly.surgery_moves import insert, set_kv_heads, to_experts, widen
from lamoid.assembly.surgery_sharing import tie, untie
from lamoid.errors import InputError

SPECS: list[tuple[LowRankSpec, ...]] = [
    (LoraSpec("one", 3, 8.0),),
    (LoraSpec("one", 3, 8.0, "root"),),
    (DoraSpec("one", 3, 8.0),),
    (DoraSpec("one", 2, 5.0, "root"), LoraSpec("two", 4, 6.0)),
]
FAMILIES = ["llama", "gpt2", "bert", "t5"]


def base_model(family: str = "llama", **words) -> LanguageModel:
    model = LanguageModel(Shape(family=family, width=16, layers=2, heads=4, context=32, **words).spec(40))
    initialise(model, 0, deviation=0.2)
    return model.eval()


def put(model: LanguageModel, *specs: LowRankSpec, on: str = "all", head: bool = True) -> LanguageModel:
    spec = model.spec
    paths = targets(spec, [on]) + ([path for path, _ in linear_maps(spec) if path.startswith("heads.")] if head else [])
    for each in specs:
        spec = adapt(spec, dict.fromkeys(paths, each))
    fresh, new = refitted(model, spec)
    initialise(fresh, 1, only=new)
    return fresh


@torch.no_grad()
def stir(model: LanguageModel) -> LanguageModel:
    for name, parameter in model.named_parameters():
        if ".adapters." in name:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def read(model: LanguageModel, ids: torch.Tensor, numbers: list[int] | None = None) -> torch.Tensor:
    source = Batch(ids.flip(1)) if model.spec.reads_source else None
    streams = {} if numbers is None else {"adapter": torch.tensor(numbers)[:, None].expand_as(ids)}
    with torch.no_grad():
        return model(Batch(ids, source=source, streams=streams))


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("specs", SPECS)
def test_a_fresh_adapter_changes_nothing_and_counts_its_numbers(family: str, specs) -> None:
    ids = torch.randint(0, 40, (3, 9))
    model = base_model(family)
    plain = read(model, ids)
    ours = put(model, *specs)
    assert error(read(ours, ids), plain) < 1e-6
    assert ours.spec.parameters() == sum(parameter.numel() for parameter in ours.parameters())
    maps = len(list(linear_maps(model.spec)))
    assert maps > 10
    assert ours.spec.flops() > model.spec.flops()
    assert without_adapters(ours.spec) == model.spec
    assert decode_spec(encode_spec(ours.spec), file="spec.json") == ours.spec


def test_the_start_is_peft_s() -> None:
    """Uniform within 1 / sqrt(inputs) (kaiming with the slope sqrt(5)), zeros, and the rows' own lengths."""
    ours = put(base_model(), DoraSpec("one", 8, 8.0))
    for path in ("blocks.0.mixer.query", "blocks.1.feedforward.down"):
        part = ours.get_submodule(path)
        low = part.get_submodule("adapters.0")
        bound = part.weight.shape[1] ** -0.5
        narrow = low.get_parameter("narrow").detach()
        assert float(narrow.abs().max()) <= bound
        assert float(narrow.var()) == pytest.approx(bound**2 / 3, rel=0.5)
        assert not low.get_parameter("widen").any()
        assert torch.allclose(low.get_parameter("magnitude"), part.weight.norm(dim=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_is_applying_for_every_weight(family: str) -> None:
    ids = torch.randint(0, 40, (3, 9))
    ours = stir(put(base_model(family), DoraSpec("one", 3, 8.0), LoraSpec("two", 4, 6.0, "root")))
    for weights in ({}, {"one": 1.0}, {"two": 1.0}, {"one": 0.4}, {"one": -1.5, "two": 0.5}):
        ours.choice.use(weights)
        applied = read(ours, ids)
        together = merged(ours)
        assert together.spec.parameters() == sum(p.numel() for p in together.parameters())
        assert error(read(together, ids), applied) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_one_adapter_with_weight_one_is_itself_and_nothing_is_the_base(family: str) -> None:
    """To the bit: the sum of one, and the sum of none."""
    ids = torch.randint(0, 40, (3, 9))
    model = base_model(family)
    plain = read(model, ids)
    alone = stir(put(model, DoraSpec("one", 3, 8.0)))
    wanted = read(alone, ids)
    both = put(alone, LoraSpec("two", 4, 6.0))
    both.choice.use({"one": 1.0, "two": 0.0})
    assert torch.equal(read(both, ids), wanted)
    both.choice.use({})
    assert torch.equal(read(both, ids), plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_row_has_the_adapter_that_it_asks_for(family: str) -> None:
    ids = torch.randint(0, 40, (6, 9))
    ours = stir(put(base_model(family), DoraSpec("one", 3, 8.0), LoraSpec("two", 4, 6.0)))
    numbers = [1, 0, 2, 2, 0, 1]
    mixed = read(ours, ids, numbers)
    for number, weights in enumerate([{}, {"one": 1.0}, {"two": 1.0}]):
        ours.choice.use(weights)
        rows = [row for row, other in enumerate(numbers) if other == number]
        assert error(mixed[rows], read(ours, ids[rows])) < 1e-6
        assert error(mixed[rows], read(ours, ids[rows], [number] * len(rows))) < 1e-6
    assert torch.equal(read(ours, ids), read(ours, ids)), "the next batch has the active ones again"


def test_rows_choose_while_a_text_is_written_step_by_step() -> None:
    ids = torch.randint(0, 40, (3, 9))
    ours = stir(put(base_model(), LoraSpec("one", 3, 8.0), LoraSpec("two", 4, 6.0)))
    whole, cache = read(ours, ids, [2, 0, 1]), ours.new_cache([9] * 3)
    streams = torch.tensor([2, 0, 1])[:, None]
    with torch.no_grad():
        for place in range(9):
            answer = ours.step(Batch(ids[:, place : place + 1], streams={"adapter": streams}), cache)
            assert error(answer, whole[:, place]) < 1e-5


def test_gradients_reach_each_row_s_own_adapter() -> None:
    ids = torch.randint(0, 40, (3, 9))
    ours = stir(put(base_model(), LoraSpec("one", 3, 8.0), LoraSpec("two", 4, 6.0), head=False))
    stream = torch.tensor([1, 0, 1])[:, None].expand_as(ids)
    hidden = ours.hidden(Batch(ids, streams={"adapter": stream}))
    token_nats(hidden, ours.logits, ids).sum().backward()
    grads = {name: parameter.grad for name, parameter in ours.named_parameters() if ".adapters." in name}
    assert all((grad is None or not grad.any()) == (".adapters.1." in name) for name, grad in grads.items())


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (torch.tensor([[1, 1], [1, 2]]), "within a row"),
        (torch.tensor([[3, 3], [0, 0]]), "holds 3"),
        (torch.tensor([[-1, -1], [0, 0]]), "-1"),
    ],
)
def test_a_wrong_number_is_refused(stream: torch.Tensor, told: str) -> None:
    ours = put(base_model(), LoraSpec("one", 3, 8.0), LoraSpec("two", 4, 6.0))
    with pytest.raises(InputError, match=told):
        ours(Batch(torch.zeros(2, 2, dtype=torch.long), streams={"adapter": stream}))
    with pytest.raises(InputError, match="not on this model"):
        ours.choice.use({"three": 1.0})
    with pytest.raises(InputError, match="finite"):
        ours.choice.use({"one": float("nan")})


def test_rows_of_several_adapters_are_not_guessed_where_tokens_are_mixed() -> None:
    """Experts read tokens in an order of their own, and a loss reads them flat: no row can be told there."""
    model = base_model()
    to_experts(model, "blocks.0.feedforward", 2)
    ours = stir(put(model, LoraSpec("one", 3, 8.0), LoraSpec("two", 4, 6.0)))
    ids = torch.randint(0, 40, (3, 9))
    with pytest.raises(InputError, match="row by row"):
        read(ours, ids, [1, 2, 0])
    ours.choice.use({"two": 1.0})
    assert error(read(ours, ids, [2, 2, 2]), read(ours, ids)) < 1e-6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": 10**9}, "rank"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"dropout": -0.1}, "dropout"),
        ({"name": "../x"}, "name"),
        ({"name": "x" * 10_000}, "name"),
        ({"name": ""}, "name"),
    ],
)
def test_what_no_adapter_can_be(words: dict, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        LoraSpec(**{"name": "one", "rank": 2, "alpha": 1.0, **words})
    assert len(str(raised.value)) < 400


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two of the name 'one'"):
        put(put(base_model(), LoraSpec("one", 3, 8.0)), DoraSpec("one", 3, 8.0))


@pytest.mark.parametrize("kind", [LoraSpec, DoraSpec])
def test_surgery_preserves_adapted_models(kind) -> None:
    ids = torch.randint(0, 40, (3, 9))
    moves = {
        "widen": lambda m: widen(m, "blocks.*.feedforward", 100),
        "kv_heads": lambda m: set_kv_heads(m, "blocks.*.mixer", 4),
        "experts": lambda m: to_experts(m, "blocks.0.feedforward", 3),
        "insert": lambda m: insert(m, "blocks.1"),
        "untie": lambda m: untie(m, "heads.next_token"),
    }
    for name, move in moves.items():
        ours = stir(put(base_model(kv_heads=2), kind("one", 3, 8.0)))
        ours.choice.use({"one": 0.5})
        before = read(ours, ids)
        assert move(ours).is_preserving
        assert error(read(ours, ids), before) < 1e-5, name
        assert torch.isfinite(read(ours, ids)).all()
        ours(ids).square().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in ours.parameters() if p.grad is not None)
        ours.choice.use({})
        assert error(read(ours, ids), before) > 1e-3, f"{name}: every part follows the model's choice"


def test_a_replaced_part_has_no_adapter_and_a_shared_one_shares_it() -> None:
    ours = stir(put(base_model(), LoraSpec("one", 3, 8.0)))
    tie(ours, ["blocks.*.feedforward"])
    first, second = (ours.get_parameter(f"blocks.{n}.feedforward.up.adapters.0.narrow") for n in (0, 1))
    assert first is second
    assert ours.spec.parameters() == sum(parameter.numel() for parameter in ours.parameters())
    ids = torch.randint(0, 40, (3, 9))
    assert error(read(merged(ours), ids), read(ours, ids)) < 1e-5
    ours = stir(put(base_model(), LoraSpec("one", 3, 8.0)))
    plain = without_adapters(ours.spec).blocks[0]
    change = replace(ours, "blocks.0", plain)
    assert len([name for name in change.removed if ".adapters." in name]) == 14
    assert read(ours, ids).isfinite().all()


def test_dropout_is_for_training_only() -> None:
    ids = torch.randint(0, 40, (3, 9))
    for kind in (LoraSpec, DoraSpec):
        ours = stir(put(base_model(), kind("one", 3, 8.0, dropout=0.5)))
        same = stir(put(base_model(), kind("one", 3, 8.0)))
        own = dict(same.named_parameters())
        for name, parameter in ours.named_parameters():
            own[name].data = parameter.data
        assert torch.equal(read(ours, ids), read(same, ids))
        ours.train()
        assert error(read(ours, ids), read(same, ids)) > 1e-3


def test_a_spec_by_hand_may_leave_the_kind_out(tmp_path) -> None:
    from lamoid.assembly.spec import read_spec

    text = """
width = 8
vocab = 10
context = 8
heads.next_token = {kind = "next_token"}
[[blocks]]
[blocks.mixer]
kind = "attention"
heads = 2
head_width = 4
query = {bias = true}
key = {adapters = [{kind = "lora", name = "x", rank = 2, alpha = 4.0}]}
[blocks.feedforward]
kind = "gated"
hidden = 16
"""
    (tmp_path / "model.toml").write_text(text)
    spec = read_spec(tmp_path / "model.toml")
    assert isinstance(spec, ModelSpec)
    assert spec.blocks[0].mixer.query.bias
    assert spec.blocks[0].mixer.key.adapters == (LoraSpec("x", 2, 4.0),)


def test_a_compiled_model_answers_alike() -> None:
    ids = torch.randint(0, 40, (2, 5))
    ours = stir(put(base_model(), LoraSpec("one", 3, 8.0), DoraSpec("two", 3, 8.0)))
    ours.choice.use({"one": 0.5, "two": 1.0})
    wanted = read(ours, ids)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert error(compiled(ids), wanted) < 1e-5
