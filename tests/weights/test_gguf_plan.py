"""Names by the library's own map, rows turned by the definition of both rotary conventions, refusals by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.verbs.llama import Llama
from lamoid.weights.folder import open_folder
from lamoid.weights.gguf_kinds import KINDS
from lamoid.weights.gguf_metadata import describe_model, rope_tensors
from lamoid.weights.gguf_plan import numbers_of, plan_file

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NO_WINDOW = {"sliding_window": None}
Config = Callable[[], PretrainedConfig]
FAMILIES: dict[str, tuple[Config, gguf.MODEL_ARCH]] = {
    "llama": (lambda: LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True), gguf.MODEL_ARCH.LLAMA),
    "llama tied": (lambda: LlamaConfig(**SIZES, tie_word_embeddings=True, head_dim=16), gguf.MODEL_ARCH.LLAMA),
    "mistral": (lambda: MistralConfig(**SIZES, **NO_WINDOW), gguf.MODEL_ARCH.LLAMA),
    "mixtral": (lambda: MixtralConfig(**SIZES, **NO_WINDOW, num_local_experts=3), gguf.MODEL_ARCH.LLAMA),
    "qwen2": (lambda: Qwen2Config(**SIZES), gguf.MODEL_ARCH.QWEN2),
    "qwen3": (lambda: Qwen3Config(**SIZES, head_dim=16), gguf.MODEL_ARCH.QWEN3),
    "smollm3": (lambda: SmolLM3Config(**SIZES), gguf.MODEL_ARCH.SMOLLM3),
    "olmo2": (lambda: Olmo2Config(**SIZES), gguf.MODEL_ARCH.OLMO2),
    "phi3": (lambda: Phi3Config(**SIZES, **NO_WINDOW), gguf.MODEL_ARCH.PHI3),
}
PAIRED = ("llama", "smollm3")


def saved(folder: Path, config: PretrainedConfig) -> Path:
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def paired(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Put dimension i of a head's first half and i of its second next to each other."""
    width = len(rows) // heads
    order = [
        head * width + half * (width // 2) + i for head in range(heads) for i in range(width // 2) for half in (0, 1)
    ]
    return rows[order]


@pytest.mark.parametrize("name", FAMILIES)
def test_names_and_numbers(name: str, tmp_path: Path) -> None:
    config, arch = FAMILIES[name]
    folder = open_folder(saved(tmp_path / "model", config()))
    plan = plan_file(folder, KINDS["f32"])
    assert plan.arch.name == gguf.MODEL_ARCH_NAMES[arch]
    found = {p.info.name: torch.cat(list(numbers_of(folder, p))).view(p.info.shape) for p in plan.tensors}
    theirs = load_file(tmp_path / "model" / "model.safetensors")
    known = gguf.get_tensor_name_map(arch, SIZES["num_hidden_layers"])
    wanted: dict[str, torch.Tensor] = {}
    for tensor in [x for x in theirs if ".experts." not in x]:
        called = known.get_name(tensor.replace("gate_up_proj", "up_proj"), try_suffixes=(".weight", ".bias"))
        if called is None:
            called = known.get_name(tensor, try_suffixes=(".weight", ".bias"))
        heads = {"q_proj": SIZES["num_attention_heads"], "k_proj": SIZES["num_key_value_heads"]}.get(
            tensor.split(".")[-2]
        )
        turned = heads is not None and plan.arch.name in PAIRED
        assert called is not None
        wanted[called] = paired(theirs[tensor], heads) if turned and heads else theirs[tensor]
    for block in range(SIZES["num_hidden_layers"] if "mixtral" in name else 0):
        for number, part in ((1, "gate"), (2, "down"), (3, "up")):
            inside = f"model.layers.{block}.block_sparse_moe.experts.{{}}.w{number}.weight"
            wanted[f"blk.{block}.ffn_{part}_exps.weight"] = torch.stack([theirs[inside.format(i)] for i in range(3)])
    assert sorted(found) == sorted(wanted)
    for called, tensor in wanted.items():
        assert torch.equal(found[called], tensor), called


def test_what_the_metadata_say(tmp_path: Path) -> None:
    for name, (config, arch) in FAMILIES.items():
        folder = open_folder(saved(tmp_path / name, config()))
        told = describe_model(folder.spec, plan_file(folder, KINDS["q8_0"]), KINDS["q8_0"], "m")
        prefix = gguf.MODEL_ARCH_NAMES[arch]
        keys = {
            value for group in vars(gguf.Keys).values() if isinstance(group, type) for value in vars(group).values()
        }
        assert {key.replace(f"{prefix}.", "{arch}.") for key in told} <= {str(key) for key in keys}
        data = {key: value.data for key, value in told.items()}
        assert data["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
        assert data[f"{prefix}.attention.head_count_kv"] == 2
        assert data[f"{prefix}.context_length"] == 64
        assert data[f"{prefix}.attention.layer_norm_rms_epsilon"] == config().rms_norm_eps


def test_kinds_of_numbers(tmp_path: Path) -> None:
    folder = open_folder(saved(tmp_path / "model", MixtralConfig(**SIZES, **NO_WINDOW, num_local_experts=3)))
    plan = plan_file(folder, KINDS["q8_0"])
    kinds = {planned.info.name: planned.info.kind.name for planned in plan.tensors}
    assert kinds["blk.0.ffn_gate_inp.weight"] == kinds["blk.0.attn_norm.weight"] == "f32"
    assert kinds["blk.0.attn_q.weight"] == kinds["blk.0.ffn_up_exps.weight"] == kinds["output.weight"] == "q8_0"
    assert kinds["blk.0.ffn_down_exps.weight"] == "f16"  # rows of 48
    assert plan.remarks == ("blk.0.ffn_down_exps.weight and 3 more: rows are no multiple of 32, kept in f16",)


def test_llama_3_s_factors_divide_its_frequencies(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 64
    wide = {**SIZES, "head_dim": 64, "max_position_embeddings": 512}
    model = transformers.LlamaForCausalLM(LlamaConfig(**wide, rope_scaling=scaling))
    plain = transformers.LlamaForCausalLM(LlamaConfig(**wide))
    model.save_pretrained(tmp_path / "model")
    factors = rope_tensors(plan_file(open_folder(tmp_path / "model"), KINDS["f32"]))["rope_freqs.weight"]
    assert 1 < len(factors.unique()) < 33
    frequencies = plain.model.rotary_emb.inv_freq / factors
    torch.testing.assert_close(frequencies, model.model.rotary_emb.inv_freq, rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (lambda: GPT2Config(vocab_size=96, n_embd=32, n_layer=1, n_head=2), "it is a gpt2, and Lamoid writes GGUF for"),
        (lambda: LlamaConfig(**SIZES, hidden_act="gelu"), "not gated by silu"),
        (lambda: LlamaConfig(**SIZES, rope_scaling={"rope_type": "dynamic", "factor": 2.0}), "scaled by dynamic"),
        (
            lambda: Qwen3Config(**SIZES, attention_bias=True),
            r"mixer.output.bias has no place in llama.cpp's graph of qwen3",
        ),
        (lambda: Olmo2Config(**SIZES, attention_bias=True), "bias has no place in llama.cpp's graph of olmo2"),
        (lambda: SmolLM3Config(**SIZES, no_rope_layers=[1, 0, 1, 0]), "layers .1, 3. know no positions"),
        (lambda: Qwen2Config(**SIZES, head_dim=16), "heads have 64 dimensions, llama.cpp's qwen2 needs the width, 32"),
        (
            lambda: LlamaConfig(**SIZES, rope_scaling={"rope_type": "yarn", "factor": 4.0, "truncate": False}),
            "does not truncate",
        ),
    ],
)
def test_what_llama_cpp_cannot_run(config: Config, said: str, tmp_path: Path) -> None:
    folder = open_folder(saved(tmp_path / "model", config()))
    with pytest.raises(InputError, match=said):
        plan_file(folder, KINDS["f32"])


def test_a_model_of_no_family_is_refused(tmp_path: Path) -> None:
    spec = Shape(width=32, layers=1, heads=2).spec(96)
    spec = msgspec.structs.replace(spec, embedding=msgspec.structs.replace(spec.embedding, multiplier=2.0))
    model = LanguageModel(spec)
    initialise(model, 0)
    Llama(model).save(tmp_path / "model")
    with pytest.raises(InputError, match=r"of no family that llama.cpp has.*Assemble it as one of these"):
        plan_file(open_folder(tmp_path / "model"), KINDS["f32"])


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    transformers.LlamaForSequenceClassification(LlamaConfig(**SIZES)).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="not next_token alone"):
        plan_file(open_folder(tmp_path / "model"), KINDS["f32"])


def test_a_window_cuts_the_context(tmp_path: Path) -> None:
    plan = plan_file(open_folder(saved(tmp_path / "model", MistralConfig(**SIZES, sliding_window=24))), KINDS["f32"])
    assert plan.context == 24
    assert plan.remarks == ("llama.cpp has no windows here: the context is cut from 64 to the window's 24",)
