"""Adapter folders: round trips, and hostile or broken ones, refused by name before anything is changed."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamoid.assembly.adapter import DoraSpec, LoraSpec
from lamoid.assembly.adapter_merge import refitted
from lamoid.assembly.families.llama import LLAMA
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.rewrite import adapt, linear_maps, targets
from lamoid.errors import InputError
from lamoid.verbs.llama import load
from lamoid.weights.adapter import open_adapter, put_adapters
from lamoid.weights.adapter_write import save_adapter
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder, save_model
from lamoid.weights.names import Naming


class Mischief:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "run")


def base_model(seed: int = 0, **words: Any) -> LanguageModel:
    model = LanguageModel(Shape(**{"width": 16, "layers": 2, "heads": 4, "context": 32, **words}).spec(40))
    initialise(model, seed, deviation=0.2)
    return model.eval()


def naming_of(folder: Path) -> Naming:
    opened = open_folder(folder)
    return Naming(opened.family, opened.architecture)


def adapted(model: LanguageModel, spec: LoraSpec | DoraSpec, on: list[str]) -> LanguageModel:
    ours, new = refitted(model, adapt(model.spec, dict.fromkeys(targets(model.spec, on), spec)))
    initialise(ours, 1, only=new)
    with torch.no_grad():
        for name in new:
            ours.get_parameter(name).add_(torch.randn_like(ours.get_parameter(name)) * 0.2)
    return ours


@pytest.fixture
def base(tmp_path: Path) -> Path:
    with durable_folder(tmp_path / "base") as draft:
        save_model(base_model(), draft, generation=None, tokenizer_files={}, family=LLAMA)
    return tmp_path / "base"


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    ours = adapted(base_model(), LoraSpec("law", 3, 6.0), ["query", "down"])
    with durable_folder(tmp_path / "law") as draft:
        save_adapter(ours, draft, "law", naming_of(base), base="somebody/base")
    (tmp_path / "law" / "manifest.json").unlink(missing_ok=True)
    for path in (tmp_path / "law").iterdir():
        if path.suffix == ".json" and path.name != "adapter_config.json":
            path.unlink()
    return tmp_path / "law"


def change(folder: Path, **words: Any) -> None:
    file = folder / "adapter_config.json"
    tree = {**json.loads(file.read_text()), **words}
    file.write_text(json.dumps({name: value for name, value in tree.items() if value != "absent"}))


@pytest.mark.parametrize("spec", [LoraSpec("x", 3, 6.0, "root", 0.1), DoraSpec("x", 2, 3.0)])
def test_a_round_trip_is_bitwise(spec: LoraSpec | DoraSpec, base: Path, tmp_path: Path) -> None:
    ours = adapted(base_model(), spec, ["all"])
    with durable_folder(tmp_path / "x") as draft:
        save_adapter(ours, draft, "x", naming_of(base))
    back = load(base, adapters=[tmp_path / "x"]).model
    assert back.spec == ours.spec
    theirs = dict(back.named_parameters())
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in ours.named_parameters())


def test_a_model_under_lamoid_s_own_names_keeps_its_adapters(tmp_path: Path) -> None:
    ours = adapted(base_model(), DoraSpec("x", 2, 3.0), ["all", "heads.next_token.linear"])
    with durable_folder(tmp_path / "whole") as draft:
        save_model(ours, draft, generation=None, tokenizer_files={})
    back = load(tmp_path / "whole").model
    assert back.spec == ours.spec
    ids = torch.randint(0, 40, (2, 7))
    assert torch.equal(back(ids), ours(ids))
    bare = base_model()
    with durable_folder(tmp_path / "x") as draft:
        save_adapter(ours, draft, "x", Naming())
    again = put_adapters(bare, Naming(), [open_adapter(tmp_path / "x")])
    assert torch.equal(again(ids), ours(ids))


def test_several_are_loaded_by_name_and_the_first_is_active(base: Path, folder: Path, tmp_path: Path) -> None:
    ours = adapted(base_model(), DoraSpec("news", 2, 3.0), ["value"])
    with durable_folder(tmp_path / "other") as draft:
        save_adapter(ours, draft, "news", naming_of(base))
    ids = torch.randint(0, 40, (2, 7))
    llama = load(base, adapters={"one": folder, "two": tmp_path / "other"})
    assert llama.model.choice.names == ("one", "two")
    assert torch.equal(llama.model(ids), load(base, adapters=[folder]).model(ids))
    llama.use({"two": 1.0})
    assert torch.equal(llama.model(ids), load(base, adapters=[tmp_path / "other"]).model(ids))
    with pytest.raises(InputError, match="law"):
        llama.use({"law": 1.0})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"r": 0}, "r: is '0'"),
        ({"r": -1}, "r: is '-1'"),
        ({"r": 10**9}, "r: is"),
        ({"r": True}, "r: is"),
        ({"r": 4}, "shape"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_alpha": 1e300}, "lora_alpha"),
        ({"lora_dropout": 1}, "lora_dropout"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": ""}, "target_modules"),
        ({"target_modules": ["v_proj"]}, "target_modules"),
        ({"target_modules": ["x" * 10_000]}, "target_modules"),
        ({"rank_pattern": {"q_proj": 5}}, "shape"),
        ({"rank_pattern": {"(a+)+$": 5}}, "pattern"),
        ({"rank_pattern": [1]}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern"),
        ({"modules_to_save": ["nowhere"]}, "nowhere"),
        ({"modules_to_save": "lm_head"}, "modules_to_save"),
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"use_dora": "yes"}, "use_dora"),
        ({"bias": "some"}, "bias"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "absent"}, "peft_type"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"lora_bias": True}, "lora_bias"),
        ({"auto_run": "rm"}, "auto_run"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(words: dict, told: str, base: Path, folder: Path) -> None:
    change(folder, **words)
    with pytest.raises(InputError) as raised:
        load(base, adapters=[folder])
    assert told in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_alpha_that_is_no_number_is_refused(base: Path, folder: Path) -> None:
    file = folder / "adapter_config.json"
    file.write_text(file.read_text().replace('"lora_alpha": 6.0', '"lora_alpha": NaN'))
    with pytest.raises(InputError, match="NaN"):
        load(base, adapters=[folder])


@pytest.mark.parametrize("pattern", ["(a+)+$", ".*", "([a-z_.]+)*\\.q_proj|x"])
def test_a_pattern_is_never_run(pattern: str, base: Path, folder: Path) -> None:
    """The tensors say which modules are adapted; what a file writes as a pattern is not compiled."""
    change(folder, target_modules=pattern, exclude_modules="(a+)+$")
    assert load(base, adapters=[folder]).model.choice.names == ("law",)


@pytest.mark.parametrize("named", ["../../etc", "https://example.org/model", "/", "x" * 10_000, None])
def test_the_base_that_a_file_names_is_not_followed(named: str | None, base: Path, folder: Path) -> None:
    change(folder, base_model_name_or_path=named)
    load(base, adapters=[folder])
    assert (open_adapter(folder).config.base or "") == (named or "")[:1000]


@pytest.mark.parametrize(
    ("words", "told"),
    [({"width": 32}, "shape"), ({"layers": 1}, "no linear map"), ({"family": "gpt2"}, "no linear map")],
)
def test_an_adapter_of_another_base_is_refused(words: dict, told: str, folder: Path, tmp_path: Path) -> None:
    with durable_folder(tmp_path / "another") as draft:
        save_model(base_model(**words), draft, generation=None, tokenizer_files={})
    with pytest.raises(InputError, match=told) as raised:
        load(tmp_path / "another", adapters=[folder])
    assert "somebody/base" in str(raised.value) or told == "shape"


def test_modules_that_are_listed_and_not_there_are_missed(base: Path, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "layers.1.mlp" not in name}, path)
    with pytest.raises(InputError, match=r"lacks the module model\.layers\.1\.mlp\.down_proj.*\(1 in all\)"):
        load(base, adapters=[folder])
    change(folder, layers_to_transform=[0])  # then it may be meant
    load(base, adapters=[folder])


@pytest.mark.parametrize("name", ["../x", "", "x" * 10_000, "a b", "."])
def test_a_name_that_is_none_is_refused(name: str, base: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="name of the adapter") as raised:
        load(base, adapters={name: folder})
    assert len(str(raised.value)) < 400


def test_two_of_one_name_are_refused(base: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="two of the name 'law'"):
        load(base, adapters=[folder, folder])


def test_pickled_weights_are_refused_unread(base: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Mischief(tmp_path / "mark")))
    with pytest.raises(InputError, match="never opened"):
        load(base, adapters=[folder])
    (folder / "adapter_model.bin").rename(folder / "adapter_model.safetensors")
    with pytest.raises(InputError):
        load(base, adapters=[folder])
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("lora_A.weight", "lora_embedding_A", "variant"),
        ("base_model.model.", "", "begin"),
        ("lora_B.weight", "other.weight", "lora_B"),
        ("q_proj.lora_A", "q_proj.lora_A.default", "variant"),
    ],
)
def test_tensors_that_do_not_fit_are_named(old: str, new: str, told: str, base: Path, folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    first = next(name for name in sorted(tensors) if old in name)
    tensors[first.replace(old, new)] = tensors.pop(first)
    save_file(tensors, file)
    with pytest.raises(InputError, match=told):
        load(base, adapters=[folder])


def test_a_tensor_too_many_is_refused(base: Path, folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.model.norm.bias": torch.zeros(16)}, file)
    with pytest.raises(InputError, match=r"model\.norm\.bias"):
        load(base, adapters=[folder])


def test_files_that_are_cut_or_absent_are_named(base: Path, folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    data = file.read_bytes()
    for end in (1, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
            load(base, adapters=[folder])
    file.unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        load(base, adapters=[folder])
    with pytest.raises(InputError, match="no such folder"):
        load(base, adapters=[folder / "nowhere"])
    file.symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="leads out"):
        load(base, adapters=[folder])


def test_whole_tensors_can_be_there_once_only(base: Path, folder: Path, tmp_path: Path) -> None:
    ours = adapted(base_model(), LoraSpec("norms", 2, 3.0), ["value"])
    with torch.no_grad():
        ours.get_parameter("norm.weight").mul_(3.0)
    with durable_folder(tmp_path / "norms") as draft:
        save_adapter(ours, draft, "norms", naming_of(base), whole=["norm"])
    ids = torch.randint(0, 40, (2, 7))
    assert torch.equal(load(base, adapters=[tmp_path / "norms"]).model(ids), ours(ids))
    with pytest.raises(InputError, match="once only"):
        load(base, adapters=[folder, tmp_path / "norms"])


def test_an_adapter_that_is_not_there_is_not_written(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"), durable_folder(tmp_path / "x") as draft:
        save_adapter(base_model(), draft, "nowhere", naming_of(base))
    assert not (tmp_path / "x").exists()
    assert len(list(linear_maps(base_model().spec))) == 15


def test_an_adapter_is_no_model(folder: Path) -> None:
    with pytest.raises(InputError, match=r"law: it holds an adapter, not a whole model\. .* lamoid adapter merge BASE"):
        open_folder(folder)


def test_the_folder_of_a_run_is_that_of_its_adapter(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "my run" / "adapter")
    opened = open_adapter(tmp_path / "my run")
    assert (opened.path, opened.name) == (tmp_path / "my run" / "adapter", "my_run")
    assert opened.name == open_adapter(tmp_path / "my run" / "adapter").name
    (tmp_path / "my run" / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"my run"):
        open_adapter(tmp_path / "my run")
