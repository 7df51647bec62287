"""Sharing by rule: stored, counted, updated and saved once; ALBERT's weights in one block; rules that cannot hold."""

from pathlib import Path

import msgspec
import pytest
import torch
import transformers

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.block import BlockSpec, PostSpec
from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec, TypesSpec
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec
from lamoid.assembly.position import LearnedPositionSpec, NoPositionSpec
from lamoid.assembly.sharing import ShareSpec, named_owners, put_parameters, unshare
from lamoid.assembly.sight import BidirectionalSpec
from lamoid.assembly.spec import ModelSpec, decode_spec, encode_spec, encode_toml, read_spec
from lamoid.errors import InputError
from lamoid.recipes.info import info
from lamoid.training.optimizers import AdamWSpec
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

WIDTH, HIDDEN, VOCAB = 16, 24, 13
ATTENTION, FEEDFORWARD, NORM = 4 * WIDTH * WIDTH, 3 * WIDTH * HIDDEN, WIDTH
ENDS = 2 * VOCAB * WIDTH + NORM
BLOCK = ATTENTION + FEEDFORWARD + 2 * NORM


def make_spec(*rules: tuple[str, ...], layers: int = 4) -> ModelSpec:
    block = BlockSpec(mixer=AttentionSpec(heads=2, head_width=8), feedforward=GatedSpec(HIDDEN))
    sharing = tuple(ShareSpec(rule) for rule in rules)
    return ModelSpec(WIDTH, VOCAB, 12, blocks=(block,) * layers, heads={"next_token": NextTokenSpec()}, sharing=sharing)


def make_model(spec: ModelSpec) -> LanguageModel:
    model = LanguageModel(spec)
    initialise(model, 1, deviation=0.2)
    return model


RULES = {
    "all layers": ((("blocks.*",),), ENDS + BLOCK),
    "all layers as a slice": ((("blocks.:",),), ENDS + BLOCK),
    "every second layer": ((("blocks.::2",), ("blocks.1::2",)), ENDS + 2 * BLOCK),
    "the first half": ((("blocks.:2",),), ENDS + 3 * BLOCK),
    "feed-forwards": ((("blocks.*.feedforward",),), ENDS + 4 * BLOCK - 3 * FEEDFORWARD),
    "two of the mixers": ((("blocks.0.mixer", "blocks.3.mixer"),), ENDS + 4 * BLOCK - ATTENTION),
    "queries, and norms apart": (
        (("blocks.*.mixer.query",), ("blocks.*.norm_mixer",)),
        ENDS + 4 * BLOCK - 3 * (WIDTH * WIDTH + NORM),
    ),
}


@pytest.mark.parametrize(("rules", "count"), RULES.values(), ids=RULES)
def test_a_shared_tensor_is_stored_and_counted_once(rules: tuple, count: int, tmp_path: Path) -> None:
    spec = make_spec(*rules)
    model = make_model(spec)
    assert spec.parameters() == count
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    everywhere = list(model.named_parameters(remove_duplicate=False))
    assert {parameter.untyped_storage().data_ptr() for _, parameter in everywhere} == storages
    assert len(storages) == len(list(model.parameters())) < len(everywhere)
    path = tmp_path / "spec.toml"
    path.write_bytes(encode_toml(spec))
    assert info(path).parameters == count


@pytest.mark.parametrize(("rules", "count"), RULES.values(), ids=RULES)
def test_specs_with_rules_go_through_json_and_toml(rules: tuple, count: int, tmp_path: Path) -> None:
    spec = make_spec(*rules)
    (tmp_path / "spec.toml").write_bytes(encode_toml(spec))
    assert decode_spec(encode_spec(spec), file="spec.json") == read_spec(tmp_path / "spec.toml") == spec


def untied_twin(model: LanguageModel) -> LanguageModel:
    """Give the same model with a tensor of its own wherever this one shares."""
    twin = LanguageModel(msgspec.structs.replace(model.spec, sharing=()))
    everywhere = dict(model.named_parameters(remove_duplicate=False))
    put_parameters(twin, {name: parameter.detach().clone() for name, parameter in everywhere.items()})
    return twin


@pytest.mark.parametrize(("rules", "count"), RULES.values(), ids=RULES)
def test_one_gradient_is_the_sum_of_all_and_the_optimiser_steps_once(rules: tuple, count: int) -> None:
    model = make_model(make_spec(*rules)).double()
    twin = untied_twin(model).double()
    ids = torch.randint(0, VOCAB, (3, 12), generator=torch.Generator().manual_seed(2))
    for each in (model, twin):
        each(ids).logsumexp(-1).square().sum().backward()
    apart = dict(twin.named_parameters())
    names = {id(parameter): [] for parameter in model.parameters()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    optimizer = AdamWSpec(learning_rate=0.01).build(list(model.named_parameters()))
    assert sorted(map(id, optimizer.parameters)) == sorted(names)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        gradients = [apart[other].grad for other in names[id(parameter)]]
        torch.testing.assert_close(parameter.grad, sum(gradients), rtol=1e-12, atol=1e-12)
    optimizer.step()
    for name, parameter in model.named_parameters():
        # AdamW's first step moves each number by the rate, whatever its gradient; twice it would be twice as far.
        decayed = before[name] * (1 - 0.01 * 0.1) if parameter.ndim > 1 else before[name]
        assert (parameter - decayed).abs().max() <= 0.01 * (1 + 1e-6)
    assert {name.partition("/")[2] for name in optimizer.tensors()} == set(before)


def test_a_shared_model_is_saved_and_loaded_once(tmp_path: Path) -> None:
    model = make_model(make_spec(("blocks.::2.feedforward",), ("blocks.*.mixer",)))
    with durable_folder(tmp_path / "model") as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    folder = open_folder(tmp_path / "model")
    assert sorted(folder.tensors) == sorted(name for name, _ in model.named_parameters())
    loaded = load_model(folder)
    assert loaded.spec == model.spec
    assert info(tmp_path / "model").stored_numbers == model.spec.parameters()
    owners = [sorted(key for _, key in members) for members in named_owners(loaded).values()]
    assert owners == [sorted(key for _, key in members) for members in named_owners(model).values()]
    ids = torch.arange(12)[None]
    assert torch.equal(loaded(ids), model(ids))


def test_a_shared_model_answers_as_its_untied_twin() -> None:
    model = make_model(make_spec(("blocks.*",)))
    ids = torch.arange(12)[None]
    assert torch.equal(model(ids), untied_twin(model)(ids))


def test_unshared_modules_begin_as_copies_and_go_their_own_way() -> None:
    model = make_model(make_spec(("blocks.*",)))
    ids = torch.arange(12)[None]
    before = model(ids)
    copied = unshare(model, ShareSpec(("blocks.*",)))
    assert torch.equal(model(ids), before)
    assert copied["blocks.3.mixer.query.weight"] == "blocks.0.mixer.query.weight"
    assert sum(parameter.numel() for parameter in model.parameters()) == ENDS + 4 * BLOCK
    with torch.no_grad():
        model.get_parameter("blocks.3.mixer.query.weight").zero_()
    assert model.get_parameter("blocks.0.mixer.query.weight").abs().min() > 0


ALBERT = {
    "word_embeddings.weight": "embedding.tokens.weight",
    "position_embeddings.weight": "embedding.positions.weight",
    "token_type_embeddings.weight": "embedding.types.weight",
    "embeddings.LayerNorm": "embedding.norm",
    "embedding_hidden_mapping_in": "embedding.widen",
    "attention.query": "blocks.0.mixer.query",
    "attention.key": "blocks.0.mixer.key",
    "attention.value": "blocks.0.mixer.value",
    "attention.dense": "blocks.0.mixer.output",
    "attention.LayerNorm": "blocks.0.norm_mixer",
    "albert_layers.0.ffn.": "blocks.0.feedforward.up.",
    "ffn_output": "blocks.0.feedforward.down",
    "full_layer_layer_norm": "blocks.0.norm_feedforward",
}


def test_albert_is_a_factored_table_and_one_shared_block() -> None:
    """transformers' AlbertModel, whose three layers are one, gives the same vectors from the same weights."""
    config = transformers.AlbertConfig(
        vocab_size=31,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(4)
    theirs = transformers.AlbertModel(config, add_pooling_layer=False).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    dense, norm = DenseSpec(bias=True), LayerNormSpec(epsilon=config.layer_norm_eps)
    attention = AttentionSpec(
        heads=2,
        head_width=8,
        position=NoPositionSpec(),
        sees=BidirectionalSpec(),
        query=dense,
        key=dense,
        value=dense,
        output=dense,
    )
    block = BlockSpec(
        mixer=attention,
        feedforward=PlainSpec(24, activation="gelu_tanh", up=dense, down=dense),
        norm_mixer=norm,
        norm_feedforward=norm,
        order=PostSpec(),
    )
    embedding = EmbeddingSpec(
        positions=LearnedPositionSpec(), table=FactoredTableSpec(8), types=TypesSpec(2), norm=norm
    )
    heads = {"next_token": NextTokenSpec(linear=DenseSpec())}
    spec = ModelSpec(16, 31, 20, embedding, (block,) * 3, NoNormSpec(), heads, (ShareSpec(("blocks.*",)),))
    model = LanguageModel(spec)
    head = 31 * 16
    assert spec.parameters() - head == sum(parameter.numel() for parameter in theirs.parameters())
    named = {}
    for name, parameter in theirs.named_parameters():
        found = [(key, ours) for key, ours in ALBERT.items() if key in name]
        assert len(found) == 1, name
        key, ours = found[0]
        named[ours + name.partition(key)[2]] = parameter.detach().clone()
    assert named.keys() == {name for name, _ in model.named_parameters()} - {"heads.next_token.linear.weight"}
    put_parameters(model, named)
    ids = torch.randint(0, 31, (2, 20))
    segments = (torch.arange(20) < torch.tensor([20, 13])[:, None]).long()
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=segments).last_hidden_state
        found = model.hidden(Batch(ids, segments))
    torch.testing.assert_close(found[segments == 1], wanted[segments == 1], rtol=1e-5, atol=1e-5)


WRONG = {
    "a path that matches nothing": ([("blocks.*.feedforwards",)], "sharing.0.paths", "matches no module"),
    "a block that is not there": ([("blocks.0", "blocks.4")], "sharing.0.paths", "'blocks.4' matches no module"),
    "a slice of nothing": ([("blocks.7:",)], "sharing.0.paths", "matches no module"),
    "a parameter, not a module": ([("blocks.*.norm_mixer.weight",)], "sharing.0.paths", "matches no module"),
    "one module": ([("blocks.0",)], "sharing.0.paths", "alone"),
    "a module and its own part": ([("blocks.0", "blocks.0.mixer")], "sharing.0.paths", "circle"),
    "everything": ([("*", "*.*")], "sharing.0.paths", "circle"),
    "two rules on one tensor": ([("blocks.*",), ("blocks.*.mixer",)], "sharing.1", "falls under the rule sharing.0"),
    "the same rule twice": ([("blocks.*",), ("blocks.*",)], "sharing.1", "falls under the rule sharing.0"),
    "a chain of rules": ([("blocks.:2",), ("blocks.1:",)], "sharing.1", "blocks.1.norm_mixer.weight falls under"),
    "unlike modules": ([("blocks.0.mixer", "blocks.0.feedforward")], "sharing.0", "is not there"),
    "unlike shapes": ([("embedding.tokens", "blocks.0.mixer.query")], "sharing.0", "is 13 x 16, .* is 16 x 16"),
    "no parameters": ([("blocks.*.mixer.query_norm",)], "sharing.0.paths", "has no parameter"),
}


@pytest.mark.parametrize("form", ["python", "json", "toml"])
@pytest.mark.parametrize(("rules", "culprit", "problem"), WRONG.values(), ids=WRONG)
def test_rules_that_cannot_hold_are_refused_by_place(
    rules: list, culprit: str, problem: str, form: str, tmp_path: Path
) -> None:
    spec = make_spec(*rules)
    path = tmp_path / f"spec.{form}"
    path.write_bytes(encode_toml(spec) if form == "toml" else encode_spec(spec))
    with pytest.raises(InputError, match=problem) as caught:
        empty_model(spec) if form == "python" else read_spec(path)
    assert caught.value.culprit == (culprit if form == "python" else f"{path}: {culprit}")


@pytest.mark.parametrize("path", ["", "blocks..0", "blocks.*x", "blocks.1-2", "a b", "blocks.::0", ".blocks", "é"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="is no path"):
        ShareSpec((path,))


def test_a_refused_rule_leaves_the_model_as_it_was() -> None:
    from lamoid.assembly.sharing import share

    model = make_model(make_spec())
    before = dict(model.named_parameters())
    with pytest.raises(InputError, match="falls under"):
        share(model, [ShareSpec(("blocks.*.mixer",)), ShareSpec(("blocks.*",))])
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
    assert len(before) == len(list(model.parameters()))


def test_many_patterns_are_refused_before_they_cost_time() -> None:
    with pytest.raises(InputError, match="must lie from 1 to"):
        ShareSpec(("blocks.*",) * 10_001)
    with pytest.raises(InputError, match="more than 100000 modules"):
        empty_model(make_spec(("blocks.*.*",) * 10_000, layers=8))


def test_a_tied_head_follows_a_shared_table() -> None:
    """A tied head reads the embedding's own table, so that sharing the embedding shares both."""
    spec = msgspec.structs.replace(make_spec(), heads={"next_token": NextTokenSpec(linear=TiedSpec())})
    assert spec.parameters() == ENDS - VOCAB * WIDTH + 4 * BLOCK
    assert [name for name, _ in LanguageModel(spec).named_parameters() if "head" in name] == []
