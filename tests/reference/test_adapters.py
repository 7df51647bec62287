"""Adapters beside peft: the same folder, the same logits, both ways, in every family that peft can adapt."""

import json
import os
import random
import time
import warnings
from pathlib import Path

import peft
import pytest
import torch
import transformers

from lamoid.assembly.adapter import LoraSpec
from lamoid.assembly.adapter_merge import merged, refitted
from lamoid.assembly.batch import Batch
from lamoid.assembly.initialise import initialise
from lamoid.assembly.rewrite import adapt, targets
from lamoid.weights.adapter import open_adapter, put_adapters
from lamoid.weights.adapter_write import save_adapter
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder
from lamoid.weights.names import Naming

VOCAB = 50
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCAB,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FEW = {"num_key_value_heads": 2, **SMALL}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": VOCAB} | {
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4, "vocab_size": VOCAB}
FAMILIES = {
    "Llama": (FEW, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "Mistral": (FEW, ["q_proj", "v_proj"]),
    "Qwen2": (FEW, ["q_proj", "k_proj", "v_proj", "down_proj"]),
    "Qwen3": ({**FEW, "head_dim": 6}, ["q_proj", "up_proj"]),
    "SmolLM3": (FEW, ["q_proj", "v_proj"]),
    "Olmo2": (FEW, ["q_proj", "down_proj"]),
    "Gemma3Text": ({**FEW, "head_dim": 6}, ["q_proj", "o_proj"]),
    "Mixtral": ({**FEW, "num_local_experts": 3}, ["q_proj", "v_proj"]),
    "Gemma2": ({**FEW, "head_dim": 6}, ["k_proj", "gate_proj"]),
    "Phi3": (FEW, ["qkv_proj", "gate_up_proj", "o_proj"]),
    "GPTNeoX": ({**SMALL, "rotary_pct": 1.0}, ["query_key_value", "dense_4h_to_h"]),
    "GPT2": (GPT2, ["c_attn", "c_proj", "c_fc"]),
    "Bert": (SMALL, ["query", "value", "dense"]),
    "Roberta": ({**SMALL, "max_position_embeddings": 34, "pad_token_id": 1}, ["query", "key"]),
    "DistilBert": (
        {"dim": 24, "hidden_dim": 40, "n_layers": 2, "n_heads": 4, "vocab_size": VOCAB, "max_position_embeddings": 32},
        ["q_lin", "v_lin", "lin1"],
    ),
    "T5": (T5, ["q", "v", "wo"]),
}
CLASSES = {
    "GPT2": "GPT2LMHeadModel",
    "T5": "T5ForConditionalGeneration",
    "Gemma3Text": "Gemma3ForCausalLM",
    **{name: f"{name}ForMaskedLM" for name in ("Bert", "Roberta", "DistilBert")},
}
KINDS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora and rslora": {"use_dora": True, "use_rslora": True},
}


@pytest.fixture
def draw():
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    torch.manual_seed(seed)
    return random.Random(seed)


def their_model(family: str, folder: Path, **changed):
    config = getattr(transformers, f"{family}Config")(**{**FAMILIES[family][0], **changed})
    kind = getattr(transformers, CLASSES.get(family, f"{family}ForCausalLM"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if parameter.ndim == 1 else 0.0))
    model.save_pretrained(folder)
    return model


def adapted(model, **words):
    """Let peft adapt a model, all its numbers drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(model, peft.LoraConfig(**words)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "magnitude" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
            elif parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return theirs


def saved(theirs, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.save_pretrained(folder)
    return folder


def their_logits(theirs, ids):
    words = {"decoder_input_ids": ids.flip(1)} if theirs.config.model_type == "t5" else {}
    with torch.no_grad():
        return theirs(input_ids=ids, **words).logits


def our_logits(model, ids):
    batch = Batch(ids.flip(1), source=Batch(ids)) if model.spec.reads_source else Batch(ids)
    with torch.no_grad():
        return model(batch)


def error(ours, theirs) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def put(base: Path, *folders: Path):
    opened = open_folder(base)
    naming = Naming(opened.family, opened.architecture)
    return put_adapters(load_model(opened), naming, [open_adapter(folder) for folder in folders]), naming


def random_ids():
    return torch.randint(3, VOCAB, (3, 7))


CASES = [(family, kind) for family in FAMILIES for kind in ("lora", "dora")]
CASES += [("Llama", "rslora"), ("GPT2", "rslora"), ("Llama", "dora and rslora"), ("Phi3", "dora and rslora")]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_the_folder_means_the_same_both_ways(family: str, kind: str, draw, tmp_path: Path) -> None:
    base, ids = tmp_path / "base", random_ids()
    model = their_model(family, base)
    plain, rank = their_logits(model, ids), draw.choice([1, 3, 5])
    targets = FAMILIES[family][1]
    words = {"r": rank, "lora_alpha": draw.choice([2, 7]), "target_modules": targets, **KINDS[kind]}
    words |= {"rank_pattern": {targets[0]: rank + 1}, "alpha_pattern": {targets[-1]: 5}}
    theirs = adapted(model, **words)
    wanted = their_logits(theirs, ids)
    assert error(plain, wanted) > 5e-4
    ours, naming = put(base, saved(theirs, tmp_path / "theirs"))
    assert error(our_logits(ours, ids), wanted) < 1e-5
    assert error(our_logits(merged(ours), ids), wanted) < 1e-5

    with durable_folder(tmp_path / "ours") as draft:
        save_adapter(ours, draft, "theirs", naming)
    fresh = getattr(transformers, CLASSES.get(family, f"{family}ForCausalLM")).from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = peft.PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()
    assert error(their_logits(again, ids), wanted) < 1e-5


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("family", ["GPT2", "Phi3", "GPTNeoX"])
def test_parts_of_a_joined_module_that_were_trained_apart_are_joined_for_peft(
    family: str, kind: str, tmp_path: Path
) -> None:
    """Ours adapt query and value alone, each with a ``narrow`` of its own; peft has one for all three."""
    from lamoid.assembly.adapter import DoraSpec, LoraSpec
    from lamoid.assembly.adapter_merge import refitted
    from lamoid.assembly.rewrite import adapt, targets

    base, ids = tmp_path / "base", random_ids()
    their_model(family, base)
    opened = open_folder(base)
    naming = Naming(opened.family, opened.architecture)
    model = load_model(opened)
    scale = "root" if kind == "rslora" else "rank"
    make = DoraSpec if kind == "dora" else LoraSpec
    places = targets(model.spec, ["query", "value"])
    specs = {path: make("x", 2 + (path.endswith("value")), 5.0, scale) for path in places}
    ours, new = refitted(model, adapt(model.spec, specs))
    initialise(ours, 0, only=new)
    with torch.no_grad():
        for name in new:
            ours.get_parameter(name).add_(torch.randn_like(ours.get_parameter(name)) * 0.3)
    with durable_folder(tmp_path / "ours") as draft:
        save_adapter(ours, draft, "x", naming)
    fresh = getattr(transformers, CLASSES.get(family, f"{family}ForCausalLM")).from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(fresh, tmp_path / "ours").eval()
    wanted = our_logits(ours, ids)
    assert error(their_logits(theirs, ids), wanted) < 1e-5
    back, _ = put(base, tmp_path / "ours")
    assert error(our_logits(back, ids), wanted) < 1e-5


@pytest.mark.parametrize("words", [{"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"bias": "lora_only"}])
@pytest.mark.parametrize("tied", [True, False])
def test_whole_modules_and_biases(words: dict, tied: bool, tmp_path: Path) -> None:
    base, ids = tmp_path / "base", random_ids()
    model = their_model("Llama", base, tie_word_embeddings=tied, attention_bias=True)
    theirs = adapted(model, r=3, target_modules=["q_proj", "v_proj"], **words)
    wanted = their_logits(theirs, ids)
    ours, _ = put(base, saved(theirs, tmp_path / "theirs"))
    assert error(our_logits(ours, ids), wanted) < 1e-5
    assert error(our_logits(merged(ours), ids), wanted) < 1e-5


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_tied_output_is_adapted_and_merged_without_touching_the_embedding(kind: str, tmp_path: Path) -> None:
    """peft applies such an adapter to the output alone, and merges it into the embedding too: another model."""
    base, ids = tmp_path / "base", random_ids()
    model = their_model("Llama", base, tie_word_embeddings=True)
    theirs = adapted(model, r=3, target_modules=["lm_head", "o_proj"], **KINDS[kind])
    wanted = their_logits(theirs, ids)
    ours, naming = put(base, saved(theirs, tmp_path / "theirs"))
    assert error(our_logits(ours, ids), wanted) < 1e-5
    assert error(our_logits(merged(ours), ids), wanted) < 1e-5
    with durable_folder(tmp_path / "ours") as draft:
        save_adapter(ours, draft, "theirs", naming)
    assert "lm_head" in json.loads((tmp_path / "ours" / "adapter_config.json").read_text())["target_modules"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apart = their_logits(theirs.merge_and_unload(), ids)
    assert error(apart, wanted) > 1e-2


@pytest.mark.parametrize(("family", "table"), [("Llama", "embedding"), ("GPT2", "embedding.tokens")])
@pytest.mark.parametrize("on", [["query"], ["query", "heads.*.linear"]])
def test_a_table_trained_as_a_whole_is_the_tied_output_s_too(
    family: str, table: str, on: list[str], draw, tmp_path: Path
) -> None:
    """peft copies a table that is held as a whole, and a tied output keeps the base's: so it is written for both."""
    base, ids = tmp_path / "base", random_ids()
    if family == "GPT2":
        on = [name.replace("query", "output") for name in on]  # the query is a part of a joined module there
    their_model(family, base, tie_word_embeddings=True)
    opened = open_folder(base)
    model = load_model(opened)
    ours, new = refitted(model, adapt(model.spec, dict.fromkeys(targets(model.spec, on), LoraSpec("x", 3, 6.0))))
    with torch.no_grad():
        for name in [*new, "embedding.tokens.weight"]:
            ours.get_parameter(name).copy_(torch.randn_like(ours.get_parameter(name)) * 0.3)
    naming = Naming(opened.family, opened.architecture)
    with durable_folder(tmp_path / "x") as draft:
        save_adapter(ours, draft, "x", naming, whole=[table])
    wanted = our_logits(ours, ids)
    back, _ = put(base, tmp_path / "x")
    assert error(our_logits(back, ids), wanted) < 1e-5
    assert error(our_logits(merged(back), ids), wanted) < 1e-5
    if len(on) == 1:  # peft lets an output be whole or adapted, not both
        kind = getattr(transformers, CLASSES.get(family, f"{family}ForCausalLM"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = peft.PeftModel.from_pretrained(kind.from_pretrained(base), tmp_path / "x").eval()
        assert error(their_logits(theirs, ids), wanted) < 1e-5


def test_a_classifier_is_saved_whole(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SMALL, num_labels=3)
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "base")
    theirs = adapted(model, r=3, target_modules=["query"], task_type="SEQ_CLS")
    ids = random_ids()
    ours, _ = put(tmp_path / "base", saved(theirs, tmp_path / "theirs"))
    assert error(our_logits(ours, ids), their_logits(theirs, ids)) < 1e-5


def test_gradients_are_peft_s(tmp_path: Path) -> None:
    """DoRA holds the rows' lengths fixed in its gradient; LoRA has nothing to hold."""
    ids = random_ids()
    for kind in ("lora", "dora"):
        base = tmp_path / kind / "base"
        model = their_model("Llama", base)
        theirs = adapted(model, r=3, target_modules=["q_proj", "down_proj"], **KINDS[kind])
        ours, _ = put(base, saved(theirs, tmp_path / kind / "theirs"))
        theirs(input_ids=ids).logits.square().mean().backward()
        ours(ids).square().mean().backward()
        found = {name: parameter.grad for name, parameter in ours.named_parameters() if ".adapters." in name}
        pairs = {"lora_A": "narrow", "lora_B": "widen", "lora_magnitude": "magnitude"}
        places = {
            "layers.1.self_attn.q_proj": "blocks.1.mixer.query",
            "layers.0.mlp.down_proj": "blocks.0.feedforward.down",
        }
        for name, parameter in theirs.named_parameters():
            for place, path in places.items():
                key = next((ours for word, ours in pairs.items() if word in name), None)
                if place in name and key is not None:
                    assert error(found.pop(f"{path}.adapters.0.{key}"), parameter.grad) < 1e-4
        assert len(found) == (2 if kind == "lora" else 3) * 2
