"""A group of models: shared tensors once, any rule over any of the models, each member a model of its own."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.group import (
    GroupSpec,
    ModelGroup,
    decode_group,
    empty_group,
    encode_group,
    encode_group_toml,
    initialise_group,
    read_group,
)
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import ClassesSpec
from lamoid.errors import InputError
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

WIDTH, HIDDEN, VOCAB = 16, 24, 13
TABLE, BLOCK = VOCAB * WIDTH, 4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN + 2 * WIDTH


def make_spec(classes: int = 0, *rules: tuple[str, ...], layers: int = 2) -> ModelSpec:
    block = BlockSpec(mixer=AttentionSpec(heads=2, head_width=8), feedforward=GatedSpec(HIDDEN))
    heads: dict[str, Any] = {"classes": ClassesSpec(count=classes)} if classes else {"next_token": NextTokenSpec()}
    sharing = tuple(ShareSpec(rule) for rule in rules)
    return ModelSpec(WIDTH, VOCAB, 12, blocks=(block,) * layers, heads=heads, sharing=sharing)


def make_group(*rules: tuple[str, ...], **models: ModelSpec) -> GroupSpec:
    models = models or {"news": make_spec(3), "films": make_spec(2)}
    return GroupSpec(models, tuple(ShareSpec(rule) for rule in rules))


def make_model(spec: GroupSpec) -> ModelGroup:
    group = ModelGroup(spec)
    initialise_group(group, 1)
    return group


TRUNK = (("*.embedding",), ("*.blocks",), ("*.norm",))
APART = 2 * (TABLE + 2 * BLOCK + WIDTH) + 5 * (WIDTH + 1)


@pytest.mark.parametrize(
    ("rules", "fewer"),
    [
        ((), 0),
        (TRUNK, TABLE + 2 * BLOCK + WIDTH),
        ((("*.embedding",),), TABLE),
        ((("*.blocks.:1",),), BLOCK),
        ((("*.blocks.*.feedforward",),), 3 * 3 * WIDTH * HIDDEN),
        ((("news.blocks.1", "films.blocks.0"),), BLOCK),
        ((("films.blocks.*",),), BLOCK),
    ],
)
def test_a_group_counts_what_is_shared_once(rules: tuple, fewer: int) -> None:
    spec = make_group(*rules)
    group = make_model(spec)
    assert spec.parameters() == APART - fewer
    assert sum(parameter.numel() for parameter in group.parameters()) == APART - fewer
    assert len({id(parameter) for parameter in group.parameters()}) == len(list(group.named_parameters()))


def test_shared_tensors_are_named_by_the_first_model() -> None:
    names = [name for name, _ in make_model(make_group(*TRUNK)).named_parameters()]
    assert [name for name in names if not name.startswith("news.")] == [
        "films.heads.classes.linear.weight",
        "films.heads.classes.linear.bias",
    ]


def test_an_embedding_may_be_shared_by_some_languages_and_not_by_others() -> None:
    spec = make_group(("en.embedding", "fr.embedding"), en=make_spec(), fr=make_spec(), zh=make_spec())
    group = make_model(spec)
    tables = {name: group.member(name).embedding.tokens.weight for name in ("en", "fr", "zh")}
    assert tables["en"] is tables["fr"]
    assert tables["en"] is not tables["zh"]
    assert torch.equal(tables["en"], tables["zh"])  # equal models begin equal


def test_a_members_own_rules_hold_in_the_group() -> None:
    spec = make_group(("*.embedding",), albert=make_spec(2, ("blocks.*",)), plain=make_spec(2))
    assert spec.parameters() == TABLE + 3 * BLOCK + 2 * (WIDTH + 2 * WIDTH + 2)


def test_training_one_member_trains_what_the_other_shares_with_it() -> None:
    group = make_model(make_group(*TRUNK))
    ids = torch.arange(12)[None]
    before = group.member("films").hidden(ids).detach()
    group.member("news")(ids).square().sum().backward()
    with torch.no_grad():
        for parameter in group.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert not torch.allclose(group.member("films").hidden(ids), before, atol=1e-4)


@pytest.mark.parametrize("rules", [TRUNK, (("films.blocks.*",),), (("*.blocks.*.mixer",), ("*.embedding",)), ()])
def test_each_member_is_saved_as_a_model_of_its_own(rules: tuple, tmp_path: Path) -> None:
    group = make_model(make_group(*rules))
    ids = torch.arange(12)[None]
    for name in group.spec.models:
        model = group.member(name)
        with durable_folder(tmp_path / name) as draft:
            save_model(model, draft, generation=None, tokenizer_files={})
        loaded = load_model(open_folder(tmp_path / name))
        assert [key for key, _ in loaded.named_parameters()] == [key for key, _ in model.named_parameters()]
        assert torch.equal(loaded(ids), model(ids))


def test_groups_go_through_json_and_toml(tmp_path: Path) -> None:
    spec = make_group(("*.embedding",), ("news.blocks.*",), news=make_spec(3), films=make_spec(2, ("blocks.*",)))
    (tmp_path / "group.toml").write_bytes(encode_group_toml(spec))
    (tmp_path / "group.json").write_bytes(encode_group(spec))
    assert read_group(tmp_path / "group.toml") == read_group(tmp_path / "group.json") == spec


def test_a_group_may_be_written_short(tmp_path: Path) -> None:
    model = """
[models.{name}]
width = 16
vocab = 13
context = 12
heads.classes = {{kind = "classes", count = {count}}}
[[models.{name}.blocks]]
repeat = 2
mixer = {{kind = "attention", heads = 2, head_width = 8}}
feedforward = {{kind = "gated", hidden = 24}}
"""
    text = model.format(name="news", count=3) + model.format(name="films", count=2)
    path = tmp_path / "group.toml"
    path.write_text(text + '[[sharing]]\npaths = ["*.embedding"]\n')
    assert read_group(path).parameters() == APART - TABLE


WRONG = {
    "a path that matches nothing": ([["*.embeding"]], "sharing.0.paths", "matches no module"),
    "a model that is not there": ([["films.blocks", "sports.blocks"]], "sharing.0.paths", "'sports.blocks' matches no"),
    "one module": ([["films.embedding"]], "sharing.0.paths", "alone"),
    "a circle": ([["films", "films.blocks"]], "sharing.0.paths", "circle"),
    "two rules of the group": ([["*.blocks"], ["*.blocks.0"]], "sharing.1", "falls under the rule sharing.0"),
    "a rule of a model": ([["*.blocks.0"]], "sharing.0", "falls under the rule models.news.sharing.0"),
    "unlike shapes": ([["*.heads.classes"]], "sharing.0", "is 3 x 16, .* is 2 x 16"),
    "no path": ([["films..blocks"]], "sharing[0].paths", "is no path"),
    "no text": ([[3]], "sharing[0].paths[0]", "must be a text"),
}


@pytest.mark.parametrize("form", ["json", "toml"])
@pytest.mark.parametrize(("rules", "culprit", "problem"), WRONG.values(), ids=WRONG)
def test_rules_that_cannot_hold_are_refused_by_place(
    rules: list, culprit: str, problem: str, form: str, tmp_path: Path
) -> None:
    import tomli_w

    own = (("blocks.*",),) if "models.news" in problem else ()
    tree = json.loads(encode_group(make_group(news=make_spec(3, *own), films=make_spec(2))))
    tree["sharing"] = [{"paths": paths} for paths in rules]
    path = tmp_path / f"group.{form}"
    path.write_text(tomli_w.dumps(tree) if form == "toml" else json.dumps(tree))
    with pytest.raises(InputError, match=problem) as caught:
        read_group(path)
    assert caught.value.culprit == f"{path}: {culprit}"


def test_an_error_in_a_model_names_the_model_and_the_place() -> None:
    tree = json.loads(encode_group(make_group()))
    tree["models"]["films"]["blocks"][1]["mixer"]["head"] = 3
    with pytest.raises(InputError, match="no such field") as caught:
        decode_group(json.dumps(tree).encode(), file="g.json")
    assert caught.value.culprit == "g.json: models.films: blocks[1].mixer.head"


@pytest.mark.parametrize("tree", [[], {}, {"models": []}, {"models": {}}, {"models": {"a": 3}}, {"models": None}])
def test_what_is_no_group_is_refused(tree: Any) -> None:
    with pytest.raises(InputError) as caught:
        decode_group(json.dumps(tree).encode(), file="g.json")
    assert caught.value.culprit.startswith(("g.json", "number of models"))


@pytest.mark.parametrize("name", ["keys", "training", "_modules", "member", "spec", "a.b", "1", ""])
def test_a_name_that_is_taken_or_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        GroupSpec({name: make_spec()})


def test_what_is_too_large_is_refused_before_it_is_built() -> None:
    tree = json.loads(encode_group(make_group()))
    tree["models"] = {f"m{number}": tree["models"]["news"] for number in range(101)}
    with pytest.raises(InputError, match="number of models"):
        decode_group(json.dumps(tree).encode(), file="g.json")
    deep = make_spec(2, layers=5_001)
    with pytest.raises(InputError, match="number of blocks in all models"):
        GroupSpec({"a": deep, "b": deep})


def test_an_empty_group_allocates_nothing_and_a_stranger_is_named() -> None:
    group = empty_group(make_group(*TRUNK))
    assert group.device.type == "meta"
    with pytest.raises(InputError, match="Choose one of news, films"):
        group.member("sports")
    assert isinstance(group["news"], LanguageModel)
    assert msgspec.structs.replace(group.spec, sharing=()) == make_group()


def test_parts_are_counted_over_all_models_and_so_are_the_layers_of_recurrences() -> None:
    many = BlockSpec(LSTMSpec(hidden=4, layers=10_000))
    tree = msgspec.structs.replace(make_spec(2), blocks=(many,) * 20)
    with pytest.raises(InputError, match="number of parts in all models"):
        GroupSpec({"a": tree, "b": tree})
    with pytest.raises(InputError, match="number of parts"):
        msgspec.structs.replace(tree, blocks=(many,) * 40)
