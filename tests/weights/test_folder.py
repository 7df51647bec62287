"""Whole model folders, there and back: transformers writes, lamoid reads and writes, transformers reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from lamoid.assembly.families.table import FAMILIES
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.paths import with_part
from lamoid.errors import InputError
from lamoid.weights.durable import durable_folder, verify
from lamoid.weights.folder import ModelFolder, load_model, open_folder, save_model

IDS = torch.tensor([[1, 5, 2, 8, 9, 0, 3]])
LLAMA: dict[str, Any] = {
    "vocab_size": 10,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
GPT2: dict[str, Any] = {
    "vocab_size": 10,
    "n_embd": 12,
    "n_layer": 3,
    "n_head": 2,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
MODELS = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", LLAMA | {"tie_word_embeddings": True}),
    "llama-biases": ("LlamaForCausalLM", "LlamaConfig", LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2-untied": ("GPT2LMHeadModel", "GPT2Config", GPT2 | {"tie_word_embeddings": False}),
}


def make_foreign(name: str, folder: Path, *, dtype: torch.dtype = torch.float32, **saving: Any) -> Any:
    """Saves a random model by transformers, every number of it drawn."""
    model_class, config_class, fields = MODELS[name]
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**fields)).eval().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    model.save_pretrained(folder, **saving)
    return model


def save(model: LanguageModel, target: Path, folder: ModelFolder | None = None, **named: Any) -> None:
    with durable_folder(target) as draft:
        save_model(model, draft, generation=folder and folder.generation, tokenizer_files={}, **named)


def stored(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_equal_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert set(one) == set(two)
    for name, tensor in one.items():
        assert (tensor.dtype, tensor.shape) == (two[name].dtype, two[name].shape), name
        assert torch.equal(tensor.contiguous().view(-1).view(torch.uint8), two[name].view(-1).view(torch.uint8)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_load_then_save_is_bitwise(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    make_foreign(name, tmp_path / "theirs", dtype=dtype)
    folder = open_folder(tmp_path / "theirs")
    model = load_model(folder)
    assert model.dtype == dtype
    save(model, tmp_path / "ours", folder)
    assert_equal_bits(stored(tmp_path / "theirs"), stored(tmp_path / "ours"))
    again = load_model(open_folder(tmp_path / "ours"))
    assert again.spec == model.spec
    assert_equal_bits(dict(model.state_dict()), dict(again.state_dict()))
    verify(tmp_path / "ours", hashes=True)


@pytest.mark.parametrize("shard_bytes", [10**9, 3000])
@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_what_is_saved(tmp_path: Path, name: str, shard_bytes: int) -> None:
    theirs = make_foreign(name, tmp_path / "theirs", max_shard_size=2500)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    folder = open_folder(tmp_path / "theirs")
    model = load_model(folder)
    save(model, tmp_path / "ours", folder, shard_bytes=shard_bytes)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1 or shard_bytes == 10**9
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    back, report = loaded
    assert not any(report.values())
    assert type(back) is type(theirs)
    with torch.no_grad():
        expected = theirs(IDS).logits
        assert torch.equal(back.eval()(IDS).logits, expected)
        assert (model(IDS) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (back.config.bos_token_id, back.config.eos_token_id) == (folder.start, folder.end)
    assert back.generation_config.eos_token_id == folder.end


def test_real_weights_survive_bit_for_bit(tmp_path: Path, data_folder: Path) -> None:
    source = data_folder / "stories260K" / "hf"
    folder = open_folder(source)
    save(load_model(folder), tmp_path / "ours", folder)
    assert (folder.start, folder.end) == (1, 2)
    assert_equal_bits(stored(source), stored(tmp_path / "ours"))


def test_weights_are_mapped_unless_asked_otherwise(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    folder = open_folder(tmp_path / "theirs")
    model = load_model(folder)
    before = stored(tmp_path / "theirs")
    weight = model.state_dict()["blocks.0.mixer.query.weight"]
    assert weight.data_ptr() == folder.tensors.tensor("model.layers.0.self_attn.q_proj.weight").data_ptr()
    half = load_model(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        weight += 1  # training on mapped weights leaves the file alone
    assert_equal_bits(stored(tmp_path / "theirs"), before)
    assert not torch.equal(weight, before["model.layers.0.self_attn.q_proj.weight"])


def test_a_model_may_be_saved_over_the_folder_it_is_mapped_from(tmp_path: Path) -> None:
    make_foreign("gpt2", tmp_path / "theirs")
    save(load_model(open_folder(tmp_path / "theirs")), tmp_path / "ours")
    model = load_model(open_folder(tmp_path / "ours"))
    with durable_folder(tmp_path / "ours", overwrite=True) as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    assert_equal_bits(stored(tmp_path / "ours"), stored(tmp_path / "theirs"))
    assert torch.isfinite(model(IDS)).all()


def test_tensors_of_several_dtypes_are_widened(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs", dtype=torch.bfloat16)
    file = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor.float() if "norm" in name else tensor for name, tensor in tensors.items()}, file)
    model = load_model(open_folder(tmp_path / "theirs"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["norm.weight"], tensors["model.norm.weight"].float())


def test_gpt2_files_without_prefix_and_with_old_buffers(tmp_path: Path) -> None:
    theirs = make_foreign("gpt2", tmp_path / "theirs")
    file = tmp_path / "theirs" / "model.safetensors"
    old = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    old |= {f"h.{i}.attn.bias": torch.ones(1, 1, 32, 32).tril() for i in range(3)} | {
        "h.0.attn.masked_bias": torch.tensor(-1e4)
    }
    save_file(old, file)
    folder = open_folder(tmp_path / "theirs")
    assert sorted(folder.ignored) == ["h.0.attn.bias", "h.0.attn.masked_bias", "h.1.attn.bias", "h.2.attn.bias"]
    with torch.no_grad():
        expected = theirs(IDS).logits
        assert (load_model(folder)(IDS) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_llama_files_with_old_rotary_buffers(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    file = tmp_path / "theirs" / "model.safetensors"
    save_file(load_file(file) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}, file)
    assert open_folder(tmp_path / "theirs").ignored == ("model.layers.0.self_attn.rotary_emb.inv_freq",)


def test_missing_and_unexpected_tensors_are_listed_up_to_ten(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    file = tmp_path / "theirs" / "model.safetensors"
    tensors = {name.replace("layers.2", "layers.7"): tensor for name, tensor in load_file(file).items()}
    save_file(tensors | {f"extra.{i}": torch.ones(1) for i in range(20)}, file)
    with pytest.raises(InputError, match=r"9 missing: model\.layers\.2.*29 unexpected: extra\.0") as caught:
        open_folder(tmp_path / "theirs")
    assert str(caught.value).count("extra.") == 10


def test_a_shape_that_differs_is_named(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    file = tmp_path / "theirs" / "model.safetensors"
    save_file(load_file(file) | {"model.norm.weight": torch.ones(13)}, file)
    with pytest.raises(
        InputError, match=r"tensor 'model\.norm\.weight': .* \(13,\) in the files and \(12,\) by config"
    ):
        open_folder(tmp_path / "theirs")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    file = tmp_path / "theirs" / "model.safetensors"
    save_file(load_file(file) | {"model.norm.weight": torch.ones(12, dtype=torch.int8)}, file)
    with pytest.raises(InputError, match=r"tensor 'model\.norm\.weight': int8 numbers are no plain weights"):
        open_folder(tmp_path / "theirs")


def test_a_cache_snapshot_is_a_folder(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("1" * 40), tmp_path / "models--a--b" / "blobs"
    make_foreign("llama", snapshot, max_shard_size=2500)
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        blob = blobs / f"{number:040x}"
        path.rename(blob)
        path.symlink_to(Path("../../blobs") / blob.name)
    model = load_model(open_folder(snapshot))
    assert torch.isfinite(model(IDS)).all()


def test_a_model_of_no_family_keeps_its_own_names(tmp_path: Path) -> None:
    spec = FAMILIES["llama"].spec({**LLAMA, "model_type": "llama"}, "config.json")
    model = LanguageModel(with_part(spec, "blocks.1.feedforward.hidden", 9))
    initialise(model, 1)
    save(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["model_type"] == "lamoid"
    folder = open_folder(tmp_path / "out")
    assert folder.family is None
    assert folder.spec == model.spec
    assert_equal_bits(dict(load_model(folder).state_dict()), dict(model.state_dict()))
    (tmp_path / "out" / "spec.json").write_text((tmp_path / "out" / "spec.json").read_text().replace("9", "8"))
    with pytest.raises(InputError, match="out"):
        open_folder(tmp_path / "out")


def test_tokenizer_and_generation_files_are_carried(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    model = load_model(open_folder(tmp_path / "theirs"))
    with durable_folder(tmp_path / "out") as draft:
        save_model(
            model,
            draft,
            generation={"eos_token_id": [2, 3], "temperature": 0.6},
            tokenizer_files={"tokenizer.json": b"{}"},
        )
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b"{}"
    folder = open_folder(tmp_path / "out")
    assert (folder.start, folder.end, folder.ends) == (None, 2, (2, 3))
    assert folder.generation["temperature"] == 0.6


def test_a_file_whose_size_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "theirs")
    save(load_model(open_folder(tmp_path / "theirs")), tmp_path / "out")
    with (tmp_path / "out" / "generation_config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"generation_config\.json: \d+ bytes, the manifest says \d+"):
        open_folder(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    open_folder(tmp_path / "out")


@pytest.mark.parametrize("what", ["absent", "file"])
def test_a_folder_that_is_none(tmp_path: Path, what: str) -> None:
    if what == "file":
        (tmp_path / "x").write_bytes(b"")
    with pytest.raises(InputError, match=str(tmp_path / "x")):
        open_folder(tmp_path / "x")


def test_a_folder_that_an_interrupted_writer_moved_aside_is_found(tmp_path: Path) -> None:
    make_foreign("llama", tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.old-0")
    open_folder(tmp_path / "model")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_go_to_the_device_asked_for(tmp_path: Path) -> None:
    theirs = make_foreign("gpt2", tmp_path / "theirs")
    model = load_model(open_folder(tmp_path / "theirs"), device="cuda")
    assert model.device.type == "cuda"
    save(model, tmp_path / "ours")
    assert_equal_bits(stored(tmp_path / "ours"), stored(tmp_path / "theirs"))
    with torch.no_grad():
        assert torch.allclose(model(IDS.cuda()).cpu(), theirs(IDS).logits, atol=1e-4)


def test_views_are_mapped_whole_and_say_the_same(tmp_path: Path) -> None:
    make_foreign("gpt2", tmp_path / "theirs")
    folder = open_folder(tmp_path / "theirs")
    copied, mapped = load_model(folder), load_model(folder, views=True)
    mappings = [folder.tensors.tensor(name) for name in folder.tensors]
    places = [range(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in mappings]
    for name, parameter in mapped.named_parameters():
        assert any(parameter.data_ptr() in place for place in places), name
        assert torch.equal(parameter, copied.get_parameter(name))
    assert not mapped.get_parameter("blocks.0.mixer.query.weight").is_contiguous()
    assert copied.get_parameter("blocks.0.mixer.query.weight").is_contiguous()
    with torch.no_grad():
        expected = copied(IDS)
        assert (mapped(IDS) - expected).abs().max() <= 1e-6 * expected.abs().max()
    half = load_model(folder, dtype=torch.bfloat16, views=True)
    assert half.dtype == torch.bfloat16
