"""The laws of a decoder, over both families and every position scheme."""

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.position import (
    DynamicScalingSpec,
    LearnedPositionSpec,
    LinearScalingSpec,
    Llama3ScalingSpec,
    NoPositionSpec,
    NoScalingSpec,
    RotarySpec,
    YarnScalingSpec,
)
from lamoid.errors import InputError

VOCAB, CONTEXT = 61, 32
SCALINGS = {
    "plain": NoScalingSpec(),
    "linear": LinearScalingSpec(2.0),
    "dynamic": DynamicScalingSpec(2.0, 16),
    "llama3": Llama3ScalingSpec(8.0, 1.0, 4.0, 16),
    "yarn": YarnScalingSpec(4.0, 200, 1.1, beta_fast=1.7, beta_slow=0.3),
}


def specs():
    llama = Shape(width=24, layers=2, heads=4, kv_heads=2, head_width=16, context=CONTEXT).spec(VOCAB)
    made = {"gpt2": Shape(family="gpt2", width=24, layers=2, heads=4, context=CONTEXT).spec(VOCAB)}
    for name, scaling in SCALINGS.items():
        position = RotarySpec(500.0, scaling)
        blocks = tuple(
            msgspec.structs.replace(block, mixer=msgspec.structs.replace(block.mixer, position=position))
            for block in llama.blocks
        )
        made[f"llama-{name}"] = msgspec.structs.replace(llama, blocks=blocks)
    return made


SPECS = specs()


@pytest.fixture(params=SPECS, ids=list(SPECS))
def model(request):
    made = LanguageModel(SPECS[request.param])
    initialise(made, seed=1, deviation=0.2)
    return made.eval()


@pytest.fixture
def ids():
    return torch.randint(0, VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_the_future_moves_nothing(model, ids):
    other = ids.clone()
    other[:, 20:] = (other[:, 20:] + 1) % VOCAB
    torch.testing.assert_close(model(ids)[:, :20], model(other)[:, :20], rtol=0, atol=1e-5)
    assert not torch.equal(model(ids)[:, 20:], model(other)[:, 20:])


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[1] * CONTEXT, [CONTEXT], [5, 1, 1, 9, 16], [CONTEXT - 1, 1]], ids=str)
def test_cached_equals_uncached(model, ids, cuts):
    whole = model(ids)
    cache = model.new_cache([CONTEXT] * len(ids))
    pieces = [model(part, cache) for part in ids.split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=2e-5)


@torch.no_grad()
def test_ragged_rows_equal_each_alone(model, ids):
    """Rows of different lengths and capacities in one cache, padded at their end; then one is dropped."""
    lengths, capacities = [4, 11, 7], [CONTEXT, 24, 15]
    cache = model.new_cache(capacities)
    marks = (torch.arange(11) < torch.tensor(lengths)[:, None]).long()
    logits = model.step(Batch(ids[:, :11] * marks, marks), cache)
    rows = [0, 1, 2]
    for step in range(8):
        for place, row in enumerate(rows):
            alone = model.new_cache([capacities[row]])
            expected = model.step(ids[row : row + 1, : lengths[row] + step], alone)
            torch.testing.assert_close(logits[place], expected[0], rtol=0, atol=2e-5)
        if step == 4:
            rows = [2, 0]
            cache.select(torch.tensor([2, 0]))
        logits = model.step(torch.stack([ids[row, lengths[row] + step] for row in rows])[:, None], cache)


@torch.no_grad()
def test_a_batch_equals_each_row_alone(model, ids):
    together = model(ids)
    for row in range(3):
        torch.testing.assert_close(together[row], model(ids[row : row + 1])[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_packed_documents_equal_documents_alone(model, ids):
    cuts = [5, 17, 6]
    row = ids[0, : sum(cuts)]
    segments = torch.cat([torch.full((n,), number + 1) for number, n in enumerate(cuts)])
    packed = model(Batch(row[None], segments[None]))[0].split(cuts)
    for part, alone in zip(packed, row.split(cuts), strict=True):
        torch.testing.assert_close(part, model(alone[None])[0], rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_number_that_comes_again_is_another_document(model, ids):
    cuts, numbers = [5, 4, 6], [1, 2, 1]
    row = ids[0, : sum(cuts)]
    segments = torch.cat([torch.full((n,), number) for number, n in zip(numbers, cuts, strict=True)])
    packed = model(Batch(row[None], segments[None]))[0].split(cuts)
    for part, alone in zip(packed, row.split(cuts), strict=True):
        torch.testing.assert_close(part, model(alone[None])[0], rtol=0, atol=2e-5)


@torch.no_grad()
def test_padding_changes_nothing(model, ids):
    marks = (torch.arange(CONTEXT) < 9).long()[None]
    padded = model(Batch(ids[:1] * marks, marks))[:, :9]
    torch.testing.assert_close(padded, model(ids[:1, :9]), rtol=0, atol=1e-5)
    assert torch.isfinite(model(Batch(ids[:1], torch.zeros(1, CONTEXT, dtype=torch.long)))).all()


def test_parameters_are_counted_right(model):
    assert model.spec.parameters() == sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def test_flops_agree_with_torchs_own_counter(model, ids):
    """The matrix products by torch's count; attention's own, which it does not count on a CPU, by the pairs seen."""
    with FlopCounterMode(display=False) as counter:
        model(ids)
    counts = counter.get_flop_counts()["Global"]
    linear = sum(n for operation, n in counts.items() if str(operation) in ("aten.mm", "aten.addmm"))
    pairs = sum(range(1, CONTEXT + 1)) * len(ids)
    inner = sum(block.mixer.heads * block.mixer.head_width for block in model.spec.blocks)
    assert linear + pairs * 4 * inner == ids.numel() * model.spec.flops()


def test_cache_numbers_are_what_a_cache_keeps(model, ids):
    with torch.no_grad():
        cache = model.new_cache([10])
        model.step(ids[:1, :3], cache)
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers.values())
    assert kept == 10 * model.spec.cache_numbers()


def test_a_full_cache_and_a_long_text_are_refused(ids):
    model = LanguageModel(SPECS["gpt2"])
    initialise(model, seed=0)
    with pytest.raises(InputError, match="holds 4"):
        model.step(ids[:, :5], model.new_cache([4] * 3))
    with pytest.raises(InputError, match=f"context is {CONTEXT}"):
        model(torch.zeros(1, CONTEXT + 1, dtype=torch.long))


@torch.no_grad()
def test_storage_grows_with_use_not_with_the_capacity(model, ids):
    if isinstance(model.spec.embedding.positions, LearnedPositionSpec):
        return  # learned positions bound the text anyway
    cache = model.new_cache([10**12])
    text = ids[:1].repeat(1, 12)
    for part in text.split(50, dim=1):
        model.step(part, cache)
    assert next(iter(cache.layers.values())).keys.shape[2] == 512
    kept = [layer.keys[:, :, : text.shape[1]].clone() for layer in cache.layers.values()]
    whole = model.new_cache([10**12])
    model.step(text, whole)
    for layer, keys in zip(whole.layers.values(), kept, strict=True):
        torch.testing.assert_close(layer.keys[:, :, : text.shape[1]], keys, rtol=0, atol=1e-4)


def leaves(spec, path=()):
    """Give the path of every plain field of a spec."""
    if isinstance(spec, msgspec.Struct):
        for name in spec.__struct_fields__:
            yield from leaves(getattr(spec, name), (*path, name))
    elif isinstance(spec, tuple):
        for place in range(len(spec)):
            yield from leaves(spec[place], (*path, place))
    elif isinstance(spec, dict):
        for name in spec:
            yield from leaves(spec[name], (*path, name))
    else:
        yield path, spec


def changed(spec, path, value):
    """Give the spec with one field set."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(spec, tuple):
        return (*spec[:first], changed(spec[first], rest, value), *spec[first + 1 :])
    if isinstance(spec, dict):
        return {**spec, first: changed(spec[first], rest, value)}
    return msgspec.structs.replace(spec, **{first: changed(getattr(spec, first), rest, value)})


def other_value(value, path):
    if path[-1] in ("epsilon", "portion"):
        return 0.5
    if path[-1] == "offset":
        return 3
    if path[-1] == "kv_heads":
        return value // 2 or 2
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "relu"
    return value * 2


KINDS = {
    "norm": (("norm",), LayerNormSpec(1e-5, bias=False), "llama-plain"),
    "norm_mixer": (("blocks", 1, "norm_mixer"), LayerNormSpec(1e-5, bias=False), "llama-plain"),
    "position": (("blocks", 0, "mixer", "position"), NoPositionSpec(), "llama-plain"),
    "scaling": (("blocks", 1, "mixer", "position", "scaling"), LinearScalingSpec(4.0), "llama-plain"),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_changing_a_kind_moves_the_logits(kind, ids):
    path, other, name = KINDS[kind]
    models = [LanguageModel(spec) for spec in (SPECS[name], changed(SPECS[name], path, other))]
    for model in models:
        initialise(model, seed=3, deviation=0.5)
    first, second = (model(ids) for model in models)
    assert (first - second).abs().max() > 1e-3 * first.abs().max()


CHANGES = [(name, path) for name, spec in SPECS.items() for path, _ in leaves(spec)]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "path"), CHANGES, ids=lambda part: part if isinstance(part, str) else ".".join(map(str, part))
)
def test_changing_any_field_moves_the_logits(name, path, ids):
    """A field moves the logits, or is a size and asks for other tensors; a rotary model's context is a bound alone."""
    spec = SPECS[name]
    value = dict(leaves(spec))[path]
    other = changed(spec, path, other_value(value, path))
    assert other != spec
    with torch.device("meta"):
        shapes = [[tuple(p.shape) for p in LanguageModel(s).parameters()] for s in (spec, other)]
    sizes = {"width", "vocab", "context", "heads", "kv_heads", "head_width", "hidden", "bias", "offset"}
    assert (shapes[0] != shapes[1]) == (path[-1] in sizes and (path[-1] != "context" or name == "gpt2"))
    if shapes[0] != shapes[1]:
        return
    if path == ("context",):
        assert other.flops() != spec.flops()
        return
    models = [LanguageModel(s) for s in (spec, other)]
    initialise(models[0], seed=3, deviation=0.5)
    models[1].load_state_dict(models[0].state_dict())
    first, second = (model(ids) for model in models)
    assert (first - second).abs().max() > 1e-6 * first.abs().max()
