"""Every parameter is found among a folder's tensors, whatever they are called there and however they lie."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lamoid.assembly.attention import AttentionSpec, CrossAttentionSpec
from lamoid.assembly.block import BlockSpec, NoMixerSpec
from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec, TypesSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.families.family import Family, Rename
from lamoid.assembly.families.llama import LLAMA
from lamoid.assembly.families.mistral import MISTRAL
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.families.table import family_of
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec
from lamoid.assembly.paths import with_part
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.sight import EverywhereSpec
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.assembly.task_heads import ClassesSpec, TagsSpec
from lamoid.assembly.wiring import ConcatenationSpec, CrossSpec, GateSpec, ParallelSpec, ProjectSpec, StackSpec
from lamoid.errors import InputError
from lamoid.recipes.fuse import fuse
from lamoid.recipes.info import info
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model
from lamoid.weights.names import Part, join, match_names
from lamoid.weights.read import open_tensors

ATTENTION = AttentionSpec(heads=2, kv_heads=1, head_width=6)
ATTENDING = BlockSpec(ATTENTION, GatedSpec(9))
ACROSS = BlockSpec(CrossAttentionSpec(heads=2, kv_heads=2, head_width=4), PlainSpec(7), LayerNormSpec())
TIED: dict[str, HeadSpec] = {"next_token": NextTokenSpec(TiedSpec(bias=True))}


def whole(*blocks: Any, heads: Any = None, **more: Any) -> ModelSpec:
    return ModelSpec(12, 20, 32, blocks=blocks, heads=TIED if heads is None else heads, **more)


SPECS = {
    "experts and two heads": whole(
        BlockSpec(ATTENTION, ExpertsSpec((GatedSpec(5), PlainSpec(6)), shared=GatedSpec(3))),
        BlockSpec(NoMixerSpec(), PlainSpec(4), norm_feedforward=NoNormSpec()),
        heads={"next_token": NextTokenSpec(), "topic": ClassesSpec(count=3), "tags": TagsSpec(count=2)},
    ),
    "parallel branches": whole(
        ParallelSpec({"left": ATTENDING, "right": BlockSpec(LSTMSpec(hidden=6, layers=2), GatedSpec(4))}, GateSpec()),
        ParallelSpec({"a": ATTENDING, "b": ProjectSpec(5)}, ConcatenationSpec()),
        ProjectSpec(12),
        embedding=EmbeddingSpec(table=FactoredTableSpec(12), types=TypesSpec(2), norm=LayerNormSpec()),
    ),
    "a source": whole(
        CrossSpec(StackSpec((ATTENDING, ATTENDING)), ACROSS),
        sharing=(ShareSpec(("embedding", "blocks.0.memory.embedding")),),
    ),
    "all blocks one": whole(*(ATTENDING,) * 30, sharing=(ShareSpec(("blocks.*",)),)),
    "feed-forwards of every second block": whole(*(ATTENDING,) * 5, sharing=(ShareSpec(("blocks.::2.feedforward",)),)),
    "a head that shares the table by rule": whole(
        ATTENDING,
        heads={"next_token": NextTokenSpec(DenseSpec())},
        sharing=(ShareSpec(("embedding.tokens", "heads.next_token.linear")),),
    ),
}


def made(spec: ModelSpec, seed: int = 1) -> LanguageModel:
    model = LanguageModel(spec)
    initialise(model, seed)
    return model


def save(model: LanguageModel, folder: Path) -> None:
    with durable_folder(folder) as draft:
        save_model(model, draft, generation=None, tokenizer_files={})


def assert_same(model: LanguageModel, other: LanguageModel) -> None:
    ours, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor.view(torch.uint8), theirs[name].view(torch.uint8)), name


@pytest.mark.parametrize("name", SPECS)
def test_a_model_of_no_family_is_kept_bit_for_bit(tmp_path: Path, name: str) -> None:
    """Under its own names, nested and shared as it may be; what is shared is stored once."""
    model = made(SPECS[name])
    save(model, tmp_path / "model")
    assert family_of(model.spec) is None
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert tensors.keys() == dict(model.named_parameters()).keys()
    assert sum(tensor.numel() for tensor in tensors.values()) == model.spec.parameters()
    folder = open_folder(tmp_path / "model")
    assert (folder.family, folder.architecture, folder.spec) == (None, None, model.spec)
    for views in (False, True):
        assert_same(model, load_model(folder, views=views))
    told = info(tmp_path / "model")
    assert told.parameters == told.stored_numbers == model.spec.parameters()


@pytest.mark.parametrize("name", ["all blocks one", "a source", "experts and two heads"])
def test_shared_and_nested_models_are_fused(tmp_path: Path, name: str) -> None:
    spec = SPECS[name]
    models = [made(spec, seed) for seed in (1, 2)]
    for number, model in enumerate(models):
        save(model, tmp_path / str(number))
    fuse([tmp_path / "0", tmp_path / "1"], out=tmp_path / "fused", weights="1,3")
    fused = load_model(open_folder(tmp_path / "fused"))
    ours, theirs = (dict(model.named_parameters()) for model in models)
    assert fused.spec == spec
    for key, tensor in fused.named_parameters():
        torch.testing.assert_close(tensor, 0.25 * ours[key] + 0.75 * theirs[key])


def test_a_tied_head_of_no_family_is_as_its_file_says(tmp_path: Path) -> None:
    model = made(SPECS["parallel branches"])
    save(model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    own, name = torch.randn(20, 12), "heads.next_token.linear"
    bias = tensors.pop("heads.next_token.bias")
    save_file(tensors | {f"{name}.weight": own, f"{name}.bias": bias}, file)
    (tmp_path / "model" / "manifest.json").unlink()
    folder = open_folder(tmp_path / "model")
    assert "read as untied" in folder.remarks[0]
    head = folder.spec.heads["next_token"]
    assert isinstance(head, NextTokenSpec)
    assert head.linear == DenseSpec(bias=True)
    assert torch.equal(load_model(folder).get_parameter(f"{name}.weight"), own)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_are_cut_where_they_were_joined(heads: int, ndim: int, transposed: bool) -> None:
    """Head by head means (heads, 3, head width, ...), as a reshape by hand has it."""
    if transposed and ndim == 1:
        pytest.skip("a vector has no transpose")
    parts = {name: torch.randn(heads * 4, *(5,) * (ndim - 1)) for name in ("query", "key", "value")}
    row = Rename(("query", "key", "value"), "qkv", transposed, heads > 1, heads)
    joined = join(row, parts)
    upright = joined.t() if transposed else joined
    if heads > 1:
        by_hand = upright.reshape(heads, 3, 4, *(5,) * (ndim - 1))
        for place, part in enumerate(parts.values()):
            assert torch.equal(by_hand[:, place].flatten(0, 1), part)
    for place, part in enumerate(parts.values()):
        cut = Part("qkv", transposed, place * heads * 4, heads * 4, False, heads).cut(joined)
        assert torch.equal(cut, part)


def matched(family: Family, folder: Path, change: dict[str, Tensor | None]) -> Any:
    """Lays a changed LLaMA's table over a LLaMA's folder, some of whose tensors are others or gone."""
    model = made(Shape(width=12, heads=2, layers=1, tied=False).spec(20))
    save(model, folder)
    tensors = {**load_file(folder / "model.safetensors"), **change}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")
    return match_names(family, family.architectures[0], model.spec, open_tensors(folder), folder)


def test_copies_are_read_once_wherever_they_lie(tmp_path: Path) -> None:
    family = dataclasses.replace(LLAMA, copies=(("model.norm.weight", "model.last.weight"),))
    ones = torch.ones(12)
    names = matched(family, tmp_path / "both", {"model.last.weight": ones})
    assert names.ignored == ("model.last.weight",)
    names = matched(family, tmp_path / "other", {"model.last.weight": ones, "model.norm.weight": None})
    assert (names.ignored, names.parts["norm.weight"].theirs) == ((), "model.last.weight")
    with pytest.raises(InputError, match=r"model\.last\.weight and model\.norm\.weight stand for one tensor, but"):
        matched(family, tmp_path / "differ", {"model.last.weight": 2 * ones})
    with pytest.raises(InputError, match=r"1 unexpected: model\.last\.weight"):
        matched(LLAMA, tmp_path / "unknown", {"model.last.weight": ones})


def test_former_names_are_read(tmp_path: Path) -> None:
    family = dataclasses.replace(LLAMA, former=((".gamma", ".weight"),))
    names = matched(family, tmp_path / "old", {"model.norm.gamma": torch.ones(12), "model.norm.weight": None})
    assert names.parts["norm.weight"].theirs == "model.norm.gamma"


def test_a_name_that_is_written_besides_is_not_read(tmp_path: Path) -> None:
    table = tuple(
        dataclasses.replace(row, also=("model.norm_too.weight",)) if row.ours == ("norm",) else row
        for row in LLAMA.table
    )
    family = dataclasses.replace(LLAMA, table=table)
    assert matched(family, tmp_path / "without", {}).ignored == ()
    names = matched(family, tmp_path / "with", {"model.norm_too.weight": torch.ones(12)})
    assert (names.ignored, names.remarks) == (("model.norm_too.weight",), ())
    names = matched(family, tmp_path / "other", {"model.norm_too.weight": torch.zeros(12)})
    assert names.remarks == (
        "model.norm_too.weight is not read, and its numbers differ from model.norm.weight, which is",
    )


def test_buffers_are_passed_over_unless_a_parameter_has_the_name(tmp_path: Path) -> None:
    family = dataclasses.replace(LLAMA, ignored=(r"model\.norm\..*",))
    names = matched(family, tmp_path / "model", {"model.norm.mean": torch.ones(12)})
    assert names.ignored == ("model.norm.mean",)
    assert names.parts["norm.weight"].theirs == "model.norm.weight"


def test_a_family_is_kept_where_two_fit(tmp_path: Path) -> None:
    """A Mistral without a window is a LLaMA as well; it stays a Mistral where it came from one."""
    spec = Shape(family="mistral", width=12, heads=2, layers=1).spec(20)
    spec = with_part(spec, "blocks.0.mixer.reach", EverywhereSpec())
    found = family_of(spec)
    assert found is not None
    assert found.family is LLAMA
    stays = family_of(spec, MISTRAL)
    assert stays is not None
    assert stays.architecture.name == "MistralForCausalLM"
    save(made(spec), tmp_path / "plain")
    with durable_folder(tmp_path / "kept") as draft:
        save_model(made(spec), draft, generation=None, tokenizer_files={}, family=MISTRAL)
    assert open_folder(tmp_path / "plain").family is LLAMA
    assert open_folder(tmp_path / "kept").family is MISTRAL
