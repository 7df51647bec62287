"""Area D: hostile and broken configurations. Refused by file and field before anything of their size is allocated."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.families.table import FAMILIES, family_of
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.recipes.info import info
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import ModelFolder, load_model, open_folder, save_model

pytestmark = pytest.mark.timeout(60)

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 11,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float32",
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "vocab_size": 11,
    "n_positions": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MISTRAL = LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 8}
QWEN2 = LLAMA | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "max_window_layers": 1}
QWEN3 = QWEN2 | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 6}
SMOLLM3 = LLAMA | {"model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 0]}
CLASSES = LLAMA | {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}


def make(folder: Path, config: dict[str, Any]) -> None:
    """Writes a good model of the configuration, with the configuration itself and no spec.json beside it."""
    model = LanguageModel(FAMILIES[config["model_type"]].spec(config, "config.json"))
    initialise(model, 1)
    with durable_folder(folder) as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    (folder / "spec.json").unlink()
    (folder / "generation_config.json").unlink()
    (folder / "manifest.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))


def change(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda config: config | fields)


def drop(*names: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda config: {k: v for k, v in config.items() if k not in names})


def edit(folder: Path, turn: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(turn(json.loads(path.read_text()))))


def replace(old: str, new: str) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))

    return case


def instead(make_file: Callable[[Path], object]) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        (folder / "config.json").unlink()
        make_file(folder / "config.json")

    return case


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 10**6)


def without_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}, folder / "model.safetensors"
    )


# name: (what is done to a good folder, what the message names)
Cases = dict[str, tuple[Callable[[Path], object], str]]
REFUSED: Cases = {
    "01-trust-remote-code": (change(trust_remote_code=True), "config.json: trust_remote_code"),
    "02-auto-map": (change(auto_map={"AutoModelForCausalLM": "evil--x.Model"}), "config.json: auto_map"),
    "02b-auto-map-of-an-unknown-type": (change(auto_map={"AutoModel": "e.M"}, model_type="evil"), "never runs code"),
    "03-attn-implementation-internal": (change(_attn_implementation_internal="evil/kernel"), "_attn_implementation"),
    "04-target": (change(_target_="os.system"), "config.json: _target_"),
    "05-quantization-config": (change(quantization_config={"quant_method": "x"}), "config.json: quantization_config"),
    "06-layers-0": (change(num_hidden_layers=0), "config.json: num_hidden_layers"),
    "07-layers-minus-1": (change(num_hidden_layers=-1), "config.json: num_hidden_layers"),
    "08-layers-10^9": (change(num_hidden_layers=10**9), "config.json: num_hidden_layers"),
    "08b-layers-10^4": (change(num_hidden_layers=10**4), "asks for 10000 blocks, the files hold 21 tensors"),
    "09-layers-text": (change(num_hidden_layers="12"), "config.json: num_hidden_layers"),
    "10-layers-1.5": (change(num_hidden_layers=1.5), "config.json: num_hidden_layers"),
    "10b-layers-true": (change(num_hidden_layers=True), "config.json: num_hidden_layers"),
    "11-layers-NaN": (replace('"num_hidden_layers": 2', '"num_hidden_layers": NaN'), "config.json: NaN"),
    "12-layers-null": (change(num_hidden_layers=None), "config.json: num_hidden_layers"),
    "12b-layers-absent": (drop("num_hidden_layers"), "config.json: num_hidden_layers"),
    "12c-layers-3": (change(num_hidden_layers=3), "9 missing: model.layers.2"),
    "12d-layers-1": (change(num_hidden_layers=1), "9 unexpected: model.layers.1"),
    "13-heads-do-not-divide": (
        change(num_attention_heads=3, num_key_value_heads=3),
        "config.json: num_attention_heads",
    ),
    "14-kv-heads-do-not-divide": (change(num_key_value_heads=3), "config.json"),
    "15-head-dim-0": (change(head_dim=0), "config.json: head_dim"),
    "15b-head-dim-2^40": (change(head_dim=2**40), "config.json: head_dim"),
    "15c-head-dim-odd": (change(head_dim=3), "config.json"),
    "16-vocab-not-the-embedding": (change(vocab_size=12), "config.json: vocab_size"),
    "16b-vocab-2^62": (change(vocab_size=2**62), "config.json: vocab_size"),
    "16c-width-2^20": (change(hidden_size=2**20), "config.json"),
    "16d-hidden-other": (change(intermediate_size=25), "mlp"),
    "17-eps-0": (change(rms_norm_eps=0), "config.json: rms_norm_eps"),
    "18-eps-negative": (change(rms_norm_eps=-1e-5), "config.json: rms_norm_eps"),
    "18b-eps-text": (change(rms_norm_eps="1e-5"), "config.json: rms_norm_eps"),
    "19-theta-0": (change(rope_theta=0), "config.json: rope_theta"),
    "20-theta-infinite": (replace("10000.0", "1e999"), "config.json: the number 1e999"),
    "20b-theta-Infinity": (replace("10000.0", "Infinity"), "config.json: Infinity"),
    "21-scaling-unknown": (change(rope_scaling={"rope_type": "evil", "factor": 2.0}), "rope_scaling: rope_type"),
    "22-scaling-factor-0": (change(rope_scaling={"rope_type": "linear", "factor": 0}), "rope_scaling: factor"),
    "22b-scaling-list": (change(rope_scaling=[2]), "config.json: rope_scaling"),
    "23-tied-by-none": (without_head, "tie_word_embeddings is false"),
    "24-max-position-2^63": (change(max_position_embeddings=2**63), "config.json: max_position_embeddings"),
    "25e-unknown-class": (change(architectures=["LlamaModel"]), "LlamaForCausalLM, LlamaForSequenceClassification"),
    "25f-class-of-another-family": (change(architectures=["GPT2LMHeadModel"]), "config.json: architectures"),
    "25g-classes-are-a-number": (change(architectures=3), "config.json: architectures"),
    "25h-class-is-a-list": (change(architectures=[["LlamaForCausalLM"]]), "config.json: architectures"),
    "25i-class-of-other-tensors": (change(architectures=["LlamaForTokenClassification"]), "score.weight"),
    "25-unknown-family": (change(model_type="lama"), "lamoid, llama, mistral"),
    "25b-no-family": (drop("model_type"), "config.json: model_type"),
    "25c-family-is-a-list": (change(model_type=["llama"]), "config.json: model_type"),
    "25d-own-family-without-spec": (change(model_type="lamoid"), "spec.json"),
    "26-duplicate-keys": (replace('"hidden_size"', '"vocab_size": 11, "hidden_size"'), "'vocab_size' stands twice"),
    "27-directory": (instead(lambda path: path.mkdir()), "config.json: it is a folder"),
    "27b-FIFO": (instead(os.mkfifo), "config.json: it is a pipe"),
    "27c-dev-zero": (instead(lambda path: path.symlink_to("/dev/zero")), "config.json: the link leads out"),
    "27d-link-loop": (instead(lambda path: path.symlink_to(path)), "config.json: the file cannot be reached"),
    "28-100MB": (instead(large), "100000000 bytes, the limit for this kind of file is 16777216"),
    "29-list": (instead(lambda path: path.write_text("[]")), "config.json: it is not a JSON object"),
    "30-empty": (instead(lambda path: path.write_text("")), "config.json: it is not JSON"),
    "31-UTF-16": (instead(lambda path: path.write_text("{}", encoding="utf-16")), "byte order mark"),
    "32-latin-1": (instead(lambda path: path.write_bytes(b'{"a": "\xe9"}')), "byte 7 is not UTF-8"),
    "33-absent": (instead(lambda path: None), "config.json: the file does not exist"),
    "34-depth-10^5": (instead(lambda path: path.write_text("[" * 10**5 + "]" * 10**5)), "more than 32"),
    "35-unknown-field": (change(evil_factor=2.0), "evil_factor"),
    "36-eos-text": (change(eos_token_id="0"), "config.json: eos_token_id"),
    "37-eos-empty-list": (change(eos_token_id=[]), "config.json: eos_token_id"),
}
REFUSED_GPT2: Cases = {
    "06-layers-0": (change(n_layer=0), "config.json: n_layer"),
    "09-layers-text": (change(n_layer="12"), "config.json: n_layer"),
    "13-heads-do-not-divide": (change(n_head=3), "config.json: n_head"),
    "16-vocab-not-the-embedding": (change(vocab_size=12), "config.json: vocab_size"),
    "17-eps-0": (change(layer_norm_epsilon=0), "config.json: layer_norm_epsilon"),
    "24-positions-other": (change(n_positions=33), "transformer.wpe.weight has the shape (32, 16) in the files"),
    "35-unknown-field": (change(evil_factor=2.0), "evil_factor"),
}


REFUSED_MISTRAL: Cases = {
    "01-window-0": (change(sliding_window=0), "config.json: sliding_window"),
    "02-window-text": (change(sliding_window="8"), "config.json: sliding_window"),
    "03-layer-types": (change(layer_types=["full_attention"] * 2), "layer_types"),
    "04-biases": (change(attention_bias=True), "attention_bias"),
}
REFUSED_QWEN2: Cases = {
    "01-layers-that-slide-without-a-window": (change(layer_types=["sliding_attention"] * 2), "layer_types"),
    "02-unknown-layer-type": (change(layer_types=["full_attention", "evil"]), "config.json: layer_types"),
    "03-too-few-layer-types": (change(layer_types=["full_attention"]), "config.json: layer_types"),
    "04-layer-types-of-numbers": (change(layer_types=[1, 0]), "config.json: layer_types"),
    "05-layer-types-of-lists": (change(layer_types=[[], []]), "config.json: layer_types"),
    "06-first-window-negative": (change(max_window_layers=-1), "config.json: max_window_layers"),
    "07-windows-text": (change(use_sliding_window="yes"), "config.json: use_sliding_window"),
    "08-head-norms": (change(qk_norm=True), "qk_norm"),
}
REFUSED_QWEN3: Cases = {
    "01-heads-as-wide-as-is-usual": (drop("head_dim"), "q_proj.weight has the shape (24, 16) in the files and (512,"),
    "02-norm-eps-0": (change(rms_norm_eps=0.0), "config.json: rms_norm_eps"),
}
REFUSED_SMOLLM3: Cases = {
    "01-turned-2": (change(no_rope_layers=[1, 2]), "config.json: no_rope_layers"),
    "02-turned-true": (change(no_rope_layers=[True, False]), "config.json: no_rope_layers"),
    "03-too-few": (change(no_rope_layers=[1]), "config.json: no_rope_layers"),
    "04-every-0th": (change(no_rope_layers=None, no_rope_layer_interval=0), "config.json: no_rope_layer_interval"),
}
REFUSED_CLASSES: Cases = {
    "01-names-empty": (change(id2label={}), "config.json: id2label"),
    "02-names-list": (change(id2label=["no", "yes"]), "config.json: id2label"),
    "03-names-with-a-gap": (change(id2label={"0": "no", "2": "yes"}), "config.json: id2label"),
    "04-names-numbers": (change(id2label={"0": 0, "1": 1}), "config.json: id2label"),
    "05-names-twice": (change(id2label={"0": "no", "1": "no"}), "config.json: id2label"),
    "06-names-of-three": (change(id2label={"0": "a", "1": "b", "2": "c"}), "score.weight has the shape (2, 16)"),
    "07-count-other": (change(num_labels=3), "config.json: num_labels"),
    "08-count-0": (change(id2label=None, num_labels=0), "config.json: num_labels"),
    "09-count-10^9": (change(id2label=None, num_labels=10**9), "config.json: num_labels"),
    "10-problem-unknown": (change(problem_type="ranking"), "config.json: problem_type"),
    "11-problem-list": (change(problem_type=["regression"]), "config.json: problem_type"),
}
TABLES: dict[str, tuple[dict[str, Any], Cases]] = {
    "llama": (LLAMA, REFUSED),
    "gpt2": (GPT2, REFUSED_GPT2),
    "mistral": (MISTRAL, REFUSED_MISTRAL),
    "qwen2": (QWEN2, REFUSED_QWEN2),
    "qwen3": (QWEN3, REFUSED_QWEN3),
    "smollm3": (SMOLLM3, REFUSED_SMOLLM3),
    "classes": (CLASSES, REFUSED_CLASSES),
}


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, (_, cases) in TABLES.items() for name in cases])
def test_refused(tmp_path: Path, table: str, name: str) -> None:
    config, cases = TABLES[table]
    make(tmp_path / "model", config)
    spoil, expected = cases[name]
    spoil(tmp_path / "model")
    before = sorted(path.name for path in (tmp_path / "model").iterdir())
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        open_folder(tmp_path / "model")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(tmp_path / "model") in caught.value.culprit
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert peak < 32 * 2**20
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before


def test_the_good_folders_load(tmp_path: Path) -> None:
    for name, (config, _) in TABLES.items():
        make(tmp_path / name, config)
        folder = open_folder(tmp_path / name)
        assert (folder.start, folder.end, folder.ignored, folder.remarks) == (0, 0, (), ())
        assert torch.isfinite(load_model(folder)(torch.tensor([[1, 2, 3]]))).all()


def test_a_tie_that_the_tensors_deny_is_read_as_untied(tmp_path: Path) -> None:
    make(tmp_path / "model", LLAMA)
    logits = load_model(open_folder(tmp_path / "model"))(torch.tensor([[1, 2, 3]]))
    change(tie_word_embeddings=True)(tmp_path / "model")
    folder = open_folder(tmp_path / "model")
    assert "read as untied" in folder.remarks[0]
    assert torch.equal(load_model(folder)(torch.tensor([[1, 2, 3]])), logits)


def test_a_tied_head_that_is_stored_twice_is_one(tmp_path: Path) -> None:
    make(tmp_path / "model", LLAMA | {"tie_word_embeddings": True})
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, file)
    folder = open_folder(tmp_path / "model")
    assert folder.ignored == ("lm_head.weight",)
    assert "heads.next_token.linear.weight" not in load_model(folder).state_dict()


def test_ids_beyond_the_vocabulary_are_left_out_and_said(tmp_path: Path) -> None:
    make(tmp_path / "model", GPT2 | {"bos_token_id": 50256, "eos_token_id": 50256})
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": [3, 50256]}')
    folder: ModelFolder = open_folder(tmp_path / "model")
    assert (folder.start, folder.end, folder.ends) == (None, 3, (3,))
    assert folder.generation["eos_token_id"] == [3]
    assert len(folder.remarks) == 2


def test_config_and_spec_must_agree(tmp_path: Path) -> None:
    model = LanguageModel(FAMILIES["llama"].spec(LLAMA, "config.json"))
    initialise(model, 1)
    with durable_folder(tmp_path / "model") as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    open_folder(tmp_path / "model")
    change(rope_theta=20000.0)(tmp_path / "model")
    with pytest.raises(InputError, match=r"differ: blocks\[0\]\.mixer\.position\.base is 20000\.0 by"):
        open_folder(tmp_path / "model")


WRONG = [0, -1, 10**9, 2**63, 1.5, -0.5, float("nan"), float("inf"), "12", "", None, True, [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("family", FAMILIES)
def test_any_field_of_any_family_is_read_or_refused_by_name(family: str) -> None:
    """Whatever stands in a field, of whatever class: it is read, or refused by an error that names the file."""
    good = Shape(family=family, width=16, layers=2, heads=2, context=32).spec(11)
    for architecture in FAMILIES[family].architectures:
        kin = family_of(good, FAMILIES[family])
        assert kin is not None
        config = {**kin.config, "architectures": [architecture.name], "id2label": {"0": "no", "1": "yes"}}
        FAMILIES[family].spec(config, "config.json")
        culprits = []
        for field in config:
            for wrong in WRONG:
                try:
                    FAMILIES[family].spec(config | {field: wrong}, "config.json")
                except InputError as error:
                    culprits.append(error.culprit)
        assert len(culprits) > 5 * len(WRONG)
        assert all(culprit.startswith("config.json") for culprit in culprits)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_field_of_any_family_is_refused_unless_asked(family: str) -> None:
    found = family_of(Shape(family=family, width=16, layers=2, heads=2, context=32).spec(11), FAMILIES[family])
    assert found is not None
    assert found.family.model_type == family
    config = found.config | {"evil_factor": 2.0}
    with pytest.raises(InputError, match=r"config\.json.*evil_factor.*--ignore-field"):
        FAMILIES[family].spec(config)
    assert FAMILIES[family].spec(config, ignore=["evil_factor"]) == FAMILIES[family].spec(found.config)


def test_a_field_may_be_ignored_by_name_and_that_is_recorded(tmp_path: Path) -> None:
    make(tmp_path / "model", LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}})
    plain = open_folder(tmp_path / "model")
    change(evil_factor=2.0, evil={"deep": [1]})(tmp_path / "model")
    change(rope_scaling={"rope_type": "linear", "factor": 2.0, "twist": 7})(tmp_path / "model")
    with pytest.raises(InputError, match="twist"):
        open_folder(tmp_path / "model", ignore_fields=["evil_factor", "evil"])
    with pytest.raises(InputError, match="evil"):
        open_folder(tmp_path / "model", ignore_fields=["evil_factor", "rope_scaling.twist"])
    names = ["evil_factor", "evil", "rope_scaling.twist", "not_there"]
    folder = open_folder(tmp_path / "model", ignore_fields=names)
    assert folder.spec == plain.spec
    for remark, told in zip(folder.remarks, ("evil_factor is 2.0", "evil is", "twist is 7"), strict=True):
        assert told in remark
        assert "ignored, as asked" in remark
    assert info(tmp_path / "model", ignore_field=names).remarks == list(folder.remarks)
    for vital in ("hidden_size", "rope_scaling"):
        with pytest.raises(InputError, match=f"{vital}: says what the model computes and cannot be ignored"):
            open_folder(tmp_path / "model", ignore_fields=[*names, vital])
    with pytest.raises(InputError, match="ignore_fields"):
        open_folder(tmp_path / "model", ignore_fields="evil")
