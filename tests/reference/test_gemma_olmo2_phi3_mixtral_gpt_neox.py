"""Gemma 2 and 3, OLMo 2, Phi-3, Mixtral and GPT-NeoX beside transformers, drawn anew in each run from a printed seed.

Set LAMOID_SEED to draw a failed run's configurations again. Windows, original contexts and caps are small and weights
large, so that each of them changes the logits; that they do is a test of its own.
"""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.table import FAMILIES
from lamoid.inference.engine import Engine
from lamoid.inference.request import Request, Settings
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

SEQUENCE, TOKENS, ANSWERS = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
STEMS = {"gemma3": ("Gemma3Text", SEQUENCE), "olmo2": ("Olmo2", SEQUENCE)}
STEMS |= {"gemma2": ("Gemma2", SEQUENCE, TOKENS), "phi3": ("Phi3", SEQUENCE, TOKENS)}
STEMS |= {"mixtral": ("Mixtral", SEQUENCE, TOKENS, ANSWERS), "gpt_neox": ("GPTNeoX", SEQUENCE, TOKENS, ANSWERS)}
VARIANTS = {
    "gemma2": ("caps", "no caps", "yarn"),
    "gemma3": ("linear", "llama3", "dynamic", "sliding too"),
    "olmo2": ("default", "linear"),
    "phi3": ("window", "longrope", "longrope given", "in part"),
    "mixtral": ("default", "window"),
    "gpt_neox": ("parallel", "in turn", "dynamic"),
}
WRITERS = [(family, variant, "ForCausalLM") for family, variants in VARIANTS.items() for variant in variants]
READERS = [(family, VARIANTS[family][0], task) for family, (_, *tasks) in STEMS.items() for task in tasks]
EVERY_WRITER = pytest.mark.parametrize("saved", WRITERS, ids="-".join, indirect=True)
PADDING, OPENING = 0, 3  # ids from OPENING on are text
KINDS = {"single_label_classification": "classes", "multi_label_classification": "labels", "regression": "regression"}


def a_draw() -> random.Random:
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    torch.manual_seed(seed)
    return random.Random(seed)


def rope(kind: str, draw: random.Random) -> dict:
    words = {"rope_type": kind, "rope_theta": draw.choice([500.0, 10000.0, 1e6])}
    if kind != "default":
        words["factor"] = draw.choice([2.0, 3.5])
    if kind == "llama3":
        words |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if kind in ("llama3", "yarn"):
        words["original_max_position_embeddings"] = 16
    return words


def drawn_gemma(family: str, variant: str, layers: int, draw: random.Random) -> dict:
    words = {
        "head_dim": draw.choice([6, 10, 16]),
        "hidden_activation": draw.choice(["gelu_pytorch_tanh", "silu"]),
        "query_pre_attn_scalar": draw.choice([7, 16, 144]),
        "sliding_window": draw.randint(4, 9),
        "final_logit_softcapping": None if variant == "no caps" else draw.choice([3.0, 10.0]),
        "attention_bias": draw.random() < 0.5,
    }
    if family == "gemma2":
        cap = None if variant == "no caps" else draw.choice([1.5, 5.0])
        return words | {
            "attn_logit_softcapping": cap,
            "rope_parameters": rope(variant if "ya" in variant else "default", draw),
        }
    near, far = rope("default", draw), rope("linear" if variant == "sliding too" else variant, draw)
    if variant == "sliding too":
        near, far = far, near
    kinds = ["sliding_attention", "full_attention", draw.choice(["sliding_attention", "full_attention"])][:layers]
    return words | {"layer_types": kinds, "rope_parameters": {"sliding_attention": near, "full_attention": far}}


def drawn_phi3(variant: str, head_width: int, draw: random.Random) -> dict:
    words = {"sliding_window": draw.randint(4, 9) if variant == "window" else None}
    words["partial_rotary_factor"] = 0.5 if variant == "in part" else 1.0
    if variant == "window":
        return words
    count = int(head_width * words["partial_rotary_factor"]) // 2
    factors = {name: [draw.uniform(1, 6) for _ in range(count)] for name in ("short_factor", "long_factor")}
    given = {"attention_factor": 1.7} if variant == "longrope given" else {}
    scaling = {"rope_type": "longrope", "rope_theta": 10000.0, **factors, **given}
    return words | {"original_max_position_embeddings": 16, "rope_parameters": scaling}


def drawn_config(family: str, variant: str, draw: random.Random) -> dict:
    """Sizes of any family, and what is its own."""
    heads, layers, head_width = draw.choice([2, 4, 6]), draw.randint(2, 3), 16 if family == "gpt_neox" else 8
    words = {
        "vocab_size": draw.randint(50, 90),
        "hidden_size": heads * head_width,
        "intermediate_size": 4 * draw.randint(5, 15),  # transformers' experts read strides of 16 bytes
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 64,
        "tie_word_embeddings": draw.random() < 0.5,
        "pad_token_id": PADDING,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "gpt_neox":
        # transformers cannot scale a single frequency dynamically.
        turned = {"partial_rotary_factor": draw.choice([0.5, 1.0] if variant == "dynamic" else [0.25, 0.5, 1.0])}
        words |= {"rope_parameters": rope("dynamic" if variant == "dynamic" else "default", draw) | turned}
        words |= {"use_parallel_residual": variant != "in turn", "attention_bias": draw.random() < 0.5}
        words["max_position_embeddings"] = 16 if variant == "dynamic" else 64
        return words | {"layer_norm_eps": draw.choice([1e-5, 1e-2]), "hidden_act": draw.choice(["gelu", "gelu_new"])}
    words |= {"num_key_value_heads": draw.choice([1, 2, heads]), "rms_norm_eps": draw.choice([1e-6, 1e-5, 1e-2])}
    if family.startswith("gemma"):
        words["max_position_embeddings"] = 16 if variant == "dynamic" else 64
        return words | drawn_gemma(family, variant, layers, draw)
    words["hidden_act"] = draw.choice(["silu", "gelu"])
    if family == "phi3":
        return words | drawn_phi3(variant, head_width, draw)
    if family == "olmo2":
        return words | {"rope_parameters": rope(variant, draw), "attention_bias": draw.random() < 0.5}
    words |= {"num_local_experts": draw.choice([3, 5]), "num_experts_per_tok": draw.choice([1, 2, 3])}
    words |= {"sliding_window": draw.randint(4, 9) if variant == "window" else None, "head_dim": draw.choice([None, 6])}
    return words | {"router_aux_loss_coef": draw.choice([0.0, 0.02]), "rope_parameters": rope("default", draw)}


def drawn(family: str, variant: str, task: str, draw: random.Random):
    """A random model of transformers, every parameter of a size that matters."""
    stem, words = STEMS[family][0], drawn_config(family, variant, draw)
    if task == SEQUENCE:
        problem = draw.choice(list(KINDS))
        count = 1 if problem == "regression" else draw.randint(2, 5)
        names = {number: f"name {number}" for number in range(count)}
        words |= {"problem_type": problem, "id2label": names, "label2id": {n: i for i, n in names.items()}}
    if task == TOKENS:
        words["num_labels"] = draw.randint(1, 5)
    name = "Gemma3" if task == "ForCausalLM" and family == "gemma3" else stem
    model = getattr(transformers, name + task)(getattr(transformers, f"{stem}Config")(**words)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.4)
        else:
            parameter.data += torch.randn(parameter.shape) * 0.3
    return model


@pytest.fixture(scope="module", params=WRITERS + READERS, ids="-".join)
def saved(request, tmp_path_factory):
    """A drawn model and the folder that transformers saved it to."""
    draw, folder = a_draw(), tmp_path_factory.mktemp("theirs")
    model = drawn(*request.param, draw)
    model.save_pretrained(folder, max_shard_size=draw.choice(["1GB", "20KB"]))
    print(model.config)
    return model, folder


def is_dynamic(model) -> bool:
    """Does it keep what a longer text made it grow to?"""
    return "dynamic" in str(model.config.rope_parameters)


def anew(model, folder: Path):
    """The same model, without what it keeps of earlier texts."""
    return type(model).from_pretrained(folder).eval() if is_dynamic(model) else model


def text(model, rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(OPENING, model.config.vocab_size, (rows, tokens))


def answer(model, ids: torch.Tensor, marks: torch.Tensor | None = None) -> torch.Tensor:
    """What transformers gives, in lamoid's shape."""
    found = model(ids, attention_mask=marks)
    return torch.stack((found.start_logits, found.end_logits), -1) if hasattr(found, "start_logits") else found.logits


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference as a share of the largest logit."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_every_head_answers_as_transformers(saved):
    theirs, folder = anew(*saved), saved[1]
    ours = load_model(open_folder(folder))
    for rows, tokens in ((1, 1), (2, 9), (2, 60)):
        ids = text(theirs, rows, tokens)
        assert distance(ours(ids), answer(theirs, ids)) <= 1e-4
    # Side by side, each longer than the original context of 16 tokens: transformers goes by the longest of a batch.
    lengths = torch.tensor([40, 33, 20])
    marks = (torch.arange(40) < lengths[:, None]).long()
    ids = torch.where(marks == 1, text(theirs, 3, 40), PADDING)
    if not is_dynamic(theirs):
        given, wanted = ours(Batch(ids, marks)), answer(theirs, ids, marks)
        if wanted.ndim == 3:
            given, wanted = given[marks == 1], wanted[marks == 1]
        assert distance(given, wanted) <= 1e-4
    if type(theirs).__name__.endswith(SEQUENCE):
        [(name, head)] = ours.spec.heads.items()
        assert name == KINDS[theirs.config.problem_type]
        assert list(head.names) == list(theirs.config.id2label.values())


@torch.no_grad()
@EVERY_WRITER
def test_greedy_tokens_equal(saved):
    theirs, folder = anew(*saved), saved[1]
    ours = load_model(open_folder(folder))
    # Longrope's factors change beyond 16 tokens: here a text stays below or begins above.
    sizes = ((1, 12), (5, 11), (17, 30), (30, 20))
    if is_dynamic(theirs):
        sizes = ((1, 12), (5, 11))  # above, transformers turns each key by the length at its time
    prompts = [text(theirs, 1, tokens) for tokens, _ in sizes]
    engine = Engine(ours, 64, frozenset({2}), lambda _: Nothing(), torch.device("cpu"))
    asked = [
        Request(tuple(ids[0].tolist()), Settings(max_tokens=count))
        for ids, (_, count) in zip(prompts, sizes, strict=True)
    ]
    done = engine.generate(asked)
    for ids, (tokens, count), found in zip(prompts, sizes, done, strict=True):
        wanted = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
        assert list(found.ids) == wanted[0, tokens:].tolist()


class Nothing:
    """A decoder for ids that stand for no text."""

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@torch.no_grad()
def test_load_then_save_is_bitwise_and_transformers_reads_it(saved, tmp_path):
    theirs, folder = anew(*saved), saved[1]
    opened = open_folder(folder)
    with durable_folder(tmp_path / "ours") as draft:
        save_model(load_model(opened), draft, generation=opened.generation, tokenizer_files={}, family=opened.family)
    before, after = read_all(folder), read_all(tmp_path / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor.view(torch.uint8), after[name].view(torch.uint8)), name
    back, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [type(theirs).__name__]
    assert back.config.id2label == theirs.config.id2label
    again = open_folder(tmp_path / "ours")
    assert again.spec == opened.spec
    ids = text(theirs, 2, 50)
    assert distance(answer(back, ids), answer(theirs, ids)) <= 1e-6


def changed(config: dict) -> list[dict]:
    """Give configurations that each lack one thing that the drawn one has."""
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    nested = dict.fromkeys(("full_attention", "sliding_attention"), plain)
    words = config["rope_parameters"]
    changes = [
        {"attn_logit_softcapping": None},
        {"final_logit_softcapping": None},
        {"query_pre_attn_scalar": 30},
        {"sliding_window": 64},
        {"num_experts_per_tok": 1 if config.get("num_experts_per_tok") == 2 else 2},
        {"use_parallel_residual": config.get("use_parallel_residual") is False},
        {"rope_parameters": words | {"long_factor": words.get("short_factor")}},
        {"rope_parameters": words | {"attention_factor": 3.0}},
        {"rope_parameters": nested if "full_attention" in words else plain | {"rope_theta": 50.0}},
    ]
    has = {"attention_factor": "short_factor" in words, "long_factor": "short_factor" in words}
    has |= {name: value is not None for name, value in config.items()}
    rotary = "attention_factor" if "short_factor" in words else "rope_parameters"
    kept = [change for change in changes[:6] if all(has.get(name, False) for name in change)]
    return kept + (changes[6:8] if rotary == "attention_factor" else changes[8:])


@torch.no_grad()
@EVERY_WRITER
def test_everything_drawn_changes_the_logits(saved, tmp_path):
    """Without any one of them the logits are far off, so that their parity says something."""
    theirs, folder = anew(*saved), saved[1]
    shutil.copytree(folder, tmp_path / "copy")
    ids = text(theirs, 2, 60)
    wanted = answer(theirs, ids)
    config = json.loads((folder / "config.json").read_text())
    for change in changed(config):
        (tmp_path / "copy" / "config.json").write_text(json.dumps(config | change))
        assert distance(load_model(open_folder(tmp_path / "copy"))(ids), wanted) > 1e-3, change


def in_old_words(config: dict) -> dict:
    """Write a configuration as transformers 4 did."""
    config = {**config, "torch_dtype": config["dtype"]}
    words = dict(config.pop("rope_parameters"))
    if "full_attention" in words:
        config["rope_local_base_freq"] = words["sliding_attention"]["rope_theta"]
        words = dict(words["full_attention"])
    theta, portion = words.pop("rope_theta"), words.pop("partial_rotary_factor", 1.0)
    config["rope_theta"] = theta
    if config["model_type"] == "gpt_neox":
        config |= {"rotary_emb_base": theta, "rotary_pct": portion}
    elif portion != 1.0:
        config["partial_rotary_factor"] = portion
    if config["model_type"] == "phi3":
        words.pop("original_max_position_embeddings", None)
    if config["model_type"] == "gemma2":
        del config["layer_types"]
        config |= {"hidden_act": config["hidden_activation"], "cache_implementation": "hybrid"}
    return config | {"rope_scaling": None if words["rope_type"] == "default" else words}


@EVERY_WRITER
def test_the_words_of_transformers_4_mean_the_same(saved):
    theirs, folder = saved
    config = json.loads((folder / "config.json").read_text())
    family = FAMILIES[config["model_type"]]
    if "factor" in str(config["rope_parameters"].get("sliding_attention")):
        return  # transformers 4 cannot say it
    old = in_old_words(config)
    assert family.spec(old) == family.spec(config)
    meant = type(theirs.config)(**{name: value for name, value in old.items() if name != "torch_dtype"})
    assert meant.rope_parameters == theirs.config.rope_parameters


@torch.no_grad()
def test_buffers_of_old_gpt_neox_files_are_ignored(tmp_path):
    theirs = drawn("gpt_neox", "parallel", "ForCausalLM", a_draw())
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    inside = "gpt_neox.layers.0.attention."
    tensors |= {inside + "bias": torch.ones(1, 1, 4, 4), inside + "masked_bias": torch.tensor(-1e9)}
    tensors |= {inside + "rotary_emb.inv_freq": torch.ones(2)}
    save_file(tensors, tmp_path / "model.safetensors")
    opened = open_folder(tmp_path)
    assert len(opened.ignored) == 3
    ids = text(theirs, 2, 20)
    assert distance(load_model(opened)(ids), answer(theirs, ids)) <= 1e-4
