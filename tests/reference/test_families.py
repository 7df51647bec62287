"""LLaMA, Mistral, Qwen2, Qwen3, SmolLM3 and GPT-2 beside transformers, every class of theirs, through folders.

Configurations are drawn anew in each run from a printed seed: set LAMOID_SEED to draw a failed run's again.
"""

import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lamoid.assembly.batch import Batch
from lamoid.assembly.position import DynamicScalingSpec
from lamoid.assembly.task_heads import ClassesSpec, LabelsSpec, RegressionSpec
from lamoid.inference.engine import Engine, collect
from lamoid.inference.request import Request, Settings
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

SCALINGS = ["default", "linear", "dynamic", "llama3", "yarn", "yarn-old-words"]
HEAD_WIDTHS = [6, 18, 80, 32, 64, 10]
KV_HEADS = [1, 2, 0, 2, 3, 1]  # 0: as many as heads
KINDS = {"single_label_classification": "classes", "multi_label_classification": "labels", "regression": "regression"}
STEMS = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "smollm3": "SmolLM3",
    "gpt2": "GPT2",
}
TASKS = ["CausalLM", "SequenceClassification", "TokenClassification", "QuestionAnswering"]
# How many configurations each family has whose options are the case's own, so that every run has them all.
NUMBERS = {"llama": 6, "mistral": 3, "qwen2": 4, "qwen3": 4, "smollm3": 4, "gpt2": 5}
CASES = [(family, "CausalLM", number) for family, count in NUMBERS.items() for number in range(count)]
CASES += [(family, task, None) for family in NUMBERS for task in TASKS[1:]]


@pytest.fixture
def draw():
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    torch.manual_seed(seed)
    return random.Random(seed)


def rope(kind, draw):
    factor, base = draw.choice([2.0, 3.5, 8.0]), draw.choice([500.0, 10000.0, 5e5])
    words = {"rope_type": kind.split("-")[0], "rope_theta": base}
    if kind != "default":
        words["factor"] = factor
    if kind == "llama3":
        words |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    if kind == "yarn":
        words |= {"original_max_position_embeddings": 16, "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False}
    if kind == "yarn-old-words":
        words |= {"original_max_position_embeddings": 8, "mscale": 0.7, "mscale_all_dim": 0.4}
    return words


def drawn_words(family, number, draw):
    """A configuration of a rotary family, of which no field that matters has its default."""
    scaling, head_width, kv_heads = draw.choice(SCALINGS), draw.choice(HEAD_WIDTHS), draw.choice(KV_HEADS)
    if family == "llama":
        scaling, head_width, kv_heads = SCALINGS[number], HEAD_WIDTHS[number], KV_HEADS[number]
    heads = draw.choice([4, 6]) if kv_heads != 3 else 6
    width = heads * draw.choice([8, 10, 14])
    layers = draw.randint(1, 3) if family == "llama" else draw.randint(2, 5)
    words = {
        "vocab_size": draw.randint(60, 120),
        "hidden_size": width,
        "intermediate_size": draw.randint(20, 90),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads or heads,
        "max_position_embeddings": 32,
        "rope_parameters": rope(scaling, draw),
        "rms_norm_eps": draw.choice([1e-6, 1e-5, 1e-3]),
        "hidden_act": draw.choice(["silu", "gelu", "gelu_pytorch_tanh", "relu"]),
        "tie_word_embeddings": number % 2 == 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if family in ("llama", "mistral", "qwen3"):
        words["head_dim"] = head_width
    return words | OWN_WORDS[family](number, layers, draw)


def llama_words(number, layers, draw):
    return {"attention_bias": number in (0, 3, 4), "mlp_bias": number in (1, 3)}


def mistral_words(number, layers, draw):
    return {"sliding_window": [draw.randint(3, 20), None, 2][number]}


def qwen2_words(number, layers, draw):
    """No windows, windows from a layer on, windows where a list says so, and a window that is switched off."""
    words = {"sliding_window": draw.randint(2, 20), "use_sliding_window": number in (1, 2)}
    words["max_window_layers"] = draw.randint(0, layers - 1)
    if number == 2:
        kinds = [draw.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
        words["layer_types"] = kinds
    return words


def qwen3_words(number, layers, draw):
    return qwen2_words(number, layers, draw) | {"attention_bias": number % 2 == 1}


def smollm3_words(number, layers, draw):
    """Every n-th layer unturned, listed ones, unturned ones that slide, and slides where a list says so."""
    words = {"no_rope_layer_interval": draw.choice([1, 2, 3]), "attention_bias": number == 1, "mlp_bias": number == 2}
    if number == 1:
        words["no_rope_layers"] = [draw.choice([0, 1]) for _ in range(layers)]
    if number in (2, 3):
        words |= {"use_sliding_window": True, "sliding_window": draw.randint(2, 20)}
    if number == 3:
        kinds = [draw.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
        words["layer_types"] = kinds
    return words


OWN_WORDS = {
    "llama": llama_words,
    "mistral": mistral_words,
    "qwen2": qwen2_words,
    "qwen3": qwen3_words,
    "smollm3": smollm3_words,
}


def drawn_gpt2(number, draw):
    heads = [1, 2, 4, 2, 3][number]
    return {
        "vocab_size": draw.randint(60, 120),
        "n_embd": heads * [6, 18, 80, 10, 24][number],
        "n_head": heads,
        "n_layer": draw.randint(1, 3),
        "n_positions": 64,
        "n_inner": draw.choice([None, 50]),
        "tie_word_embeddings": number % 2 == 0,
        "layer_norm_epsilon": draw.choice([1e-5, 1e-3]),
        "activation_function": draw.choice(["gelu_new", "gelu", "relu", "tanh", "quick_gelu"]),
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def drawn_model(family, task, number, draw, **more):
    """A random model of transformers; every number of it is drawn."""
    number = draw.randrange(NUMBERS[family]) if number is None else number
    words = (drawn_gpt2(number, draw) if family == "gpt2" else drawn_words(family, number, draw)) | more
    stem = STEMS[family]
    if task in ("SequenceClassification", "TokenClassification") and "id2label" not in words:
        names = dict(enumerate(draw.sample(["good", "bad", "ugly", "坏", "LABEL_0"], draw.randint(2, 4))))
        words |= {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    config = getattr(transformers, f"{stem}Config")(**words)
    name = "GPT2LMHeadModel" if (stem, task) == ("GPT2", "CausalLM") else f"{stem}For{task}"
    model = getattr(transformers, name)(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
        else:
            parameter.data += torch.randn(parameter.shape) * 0.2
    print(model.config)
    return model


@dataclass(frozen=True)
class Saved:
    family: str
    task: str
    model: transformers.PreTrainedModel
    folder: Path


@pytest.fixture(params=CASES, ids=lambda case: "-".join(str(part) for part in case if part is not None))
def saved(request, draw, tmp_path):
    """A random model of transformers and the folder that transformers saved it to."""
    family, task, number = request.param
    model = drawn_model(family, task, number, draw)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=draw.choice(["1GB", "20KB"]))
    return Saved(family, task, model, tmp_path / "theirs")


def answer(model, task, ids, mask=None):
    found = model(ids, attention_mask=mask)
    if task == "QuestionAnswering":
        return torch.stack((found.start_logits, found.end_logits), -1)
    return found.logits


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def read_all(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def is_dynamic(model):
    """A dynamic scaling of transformers keeps what earlier calls made it grow to."""
    positions = [getattr(block.mixer.position, "scaling", None) for block in model.spec.blocks]
    return any(isinstance(scaling, DynamicScalingSpec) for scaling in positions)


def padded(vocab, lengths):
    """Rows of unequal lengths, none of whose tokens is the padding's 0; ids, segments, mask."""
    real = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.where(real, torch.randint(1, vocab, real.shape), 0), real.long()


@torch.no_grad()
def test_logits_equal(saved):
    theirs, ours = saved.model, load_model(open_folder(saved.folder))
    for rows, tokens in ((2, 32), (1, 1), (3, 48)):
        if is_dynamic(ours):
            theirs = type(theirs).from_pretrained(saved.folder)
        ids = torch.randint(1, ours.spec.vocab, (rows, tokens))
        assert_close(ours(ids), answer(theirs, saved.task, ids))


@torch.no_grad()
def test_padded_rows_equal(saved):
    ours = load_model(open_folder(saved.folder))
    if is_dynamic(ours):
        pytest.skip("transformers stretches by the longest row, lamoid each row by its own length")
    ids, real = padded(ours.spec.vocab, [9, 30, 1, 17])
    found, wanted = ours(Batch(ids, segments=real)), answer(saved.model, saved.task, ids, real)
    if found.ndim == 3:
        found, wanted = found[real.bool()], wanted[real.bool()]
    assert_close(found, wanted)


@torch.no_grad()
def test_load_then_save_is_bitwise_and_transformers_reads_it(saved, tmp_path):
    opened = open_folder(saved.folder)
    assert opened.remarks == ()
    ours = load_model(opened)
    with durable_folder(tmp_path / "ours") as draft:
        save_model(ours, draft, generation=opened.generation, tokenizer_files={}, family=opened.family)
    before, after = read_all(saved.folder), read_all(tmp_path / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor.view(torch.uint8), after[name].view(torch.uint8)), name
    loader = getattr(transformers, f"AutoModelFor{saved.task}")
    back, report = loader.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(back) is type(saved.model)
    assert not any(report.values())
    for field in ("id2label", "label2id", "bos_token_id", "eos_token_id", "pad_token_id"):
        if "label" not in field or "Classification" in saved.task:
            assert getattr(back.config, field) == getattr(saved.model.config, field)
    ids, real = padded(ours.spec.vocab, [20, 6])
    assert_close(answer(back, saved.task, ids, real), answer(saved.model, saved.task, ids, real))
    assert open_folder(tmp_path / "ours").spec == opened.spec


@torch.no_grad()
def test_the_words_of_transformers_4_mean_the_same(saved):
    """rope_theta and rope_scaling beside each other, torch_dtype instead of dtype."""
    before = open_folder(saved.folder).spec
    file = saved.folder / "config.json"
    config = json.loads(file.read_text())
    config["torch_dtype"] = config.pop("dtype", "float32")
    if "rope_parameters" in config:
        words = config.pop("rope_parameters")
        config["rope_theta"] = words.pop("rope_theta")
        words["type"] = words.pop("rope_type")
        config["rope_scaling"] = None if words["type"] == "default" else words
    if saved.family in ("qwen2", "qwen3"):
        kinds = config["layer_types"]
        if kinds == sorted(kinds):  # full before sliding, which is all that older versions can say
            config["max_window_layers"] = kinds.count("full_attention")
            config["use_sliding_window"] = "sliding_attention" in kinds
            del config["layer_types"]
    file.write_text(json.dumps(config))
    assert open_folder(saved.folder).spec == before


class Silent:
    """A text that nobody reads."""

    def push(self, token):
        return ""

    def finish(self):
        return ""


@torch.no_grad()
@pytest.mark.parametrize(("family", "number"), [(family, number) for family, _, number in CASES if number is not None])
def test_greedy_texts_equal(family, number, draw, tmp_path):
    """Texts of several prompts, written side by side, are those that transformers writes one by one."""
    theirs = drawn_model(family, "CausalLM", number, draw)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(open_folder(tmp_path / "theirs"))
    if is_dynamic(ours):
        pytest.skip("transformers turns cached tokens by the length at which they were read")
    prompts = [torch.randint(1, ours.spec.vocab, (length,)).tolist() for length in (3, 11, 6)]
    ends = theirs.config.eos_token_id
    engine = Engine(ours, 64, frozenset({ends}), lambda ids: Silent(), ours.device)
    done = collect(engine.stream([Request(tuple(ids), Settings(max_tokens=20), 0) for ids in prompts]), len(prompts))
    for ids, text in zip(prompts, done, strict=True):
        given = torch.tensor([ids])
        wanted = theirs.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=20, do_sample=False)
        assert list(text.ids) == wanted[0, len(ids) :].tolist()


@torch.no_grad()
@pytest.mark.parametrize("problem", [*KINDS, None])
@pytest.mark.parametrize("labels", [1, 2, 5])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_a_classifier_answers_is_read_from_problem_type(family, labels, problem, draw, tmp_path):
    if (labels, problem) == (1, "single_label_classification"):
        pytest.skip("transformers has no such model")
    named: dict[str, Any] = {"id2label": {number: f"LABEL_{number}" for number in range(labels)}}
    named["label2id"] = {name: number for number, name in named["id2label"].items()}
    theirs = drawn_model(family, "SequenceClassification", 1, draw, problem_type=problem, **named)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(open_folder(tmp_path / "theirs"))
    usual = "regression" if labels == 1 else "single_label_classification"
    [(name, head)] = ours.spec.heads.items()
    assert isinstance(head, ClassesSpec | LabelsSpec | RegressionSpec)
    assert (name, head.names) == (KINDS[problem or usual], ())
    ids, real = padded(ours.spec.vocab, [4, 9])
    assert_close(ours(Batch(ids, segments=real)), theirs(ids, attention_mask=real).logits)
    with durable_folder(tmp_path / "ours") as draft:
        save_model(ours, draft, generation={"pad_token_id": 0}, tokenizer_files={})
    back = type(theirs).from_pretrained(tmp_path / "ours")
    assert back.config.problem_type == (problem or usual)
    assert_close(back(ids, attention_mask=real).logits, theirs(ids, attention_mask=real).logits)


@torch.no_grad()
@pytest.mark.parametrize("family", STEMS)
def test_bfloat16_shards_and_views(family, draw, tmp_path):
    """Weights of half precision keep their bits, and answers are as near to whole precision as transformers' are."""
    theirs = drawn_model(family, "CausalLM", 1, draw).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="10KB")
    opened = open_folder(tmp_path / "theirs")
    ours, seen = load_model(opened), load_model(opened, views=True)
    assert ours.dtype == seen.dtype == torch.bfloat16
    ids = torch.randint(1, ours.spec.vocab, (2, 20))
    wanted = type(theirs).from_pretrained(tmp_path / "theirs", dtype=torch.float32)(ids).logits
    least = (theirs(ids).logits.float() - wanted).abs().mean()
    for model in (ours, seen):
        assert (model(ids).float() - wanted).abs().mean() <= 1.3 * least
    with durable_folder(tmp_path / "ours") as draft:
        save_model(seen, draft, generation=None, tokenizer_files={}, shard_bytes=10_000, family=opened.family)
    before, after = read_all(tmp_path / "theirs"), read_all(tmp_path / "ours")
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor.view(torch.uint8), after[name].view(torch.uint8)) for name, tensor in before.items())
