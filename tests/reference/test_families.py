"""Parity with transformers, through folders, on configurations drawn anew in each run from a printed seed.

Set LAMOID_SEED to draw a failed run's configurations again.
"""

import json
import os
import random
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lamoid.assembly.position import DynamicScalingSpec
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

SCALINGS = ["default", "linear", "dynamic", "llama3", "yarn", "yarn-old-words"]
HEAD_WIDTHS = [6, 18, 80, 32, 64, 10]
KV_HEADS = [1, 2, 0, 2, 3, 1]  # 0: as many as heads


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


def drawn_llama(number, draw):
    """Scaling, head width, key heads, ties and biases are the case's own, so that every run has them all."""
    kind, head_width, kv_heads = SCALINGS[number], HEAD_WIDTHS[number], KV_HEADS[number]
    heads = draw.choice([4, 6]) if kv_heads != 3 else 6
    config = LlamaConfig(
        vocab_size=draw.randint(60, 120),
        hidden_size=heads * draw.choice([8, 10, 14]),
        intermediate_size=draw.randint(20, 90),
        num_hidden_layers=draw.randint(1, 3),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        head_dim=head_width,
        max_position_embeddings=32,
        rope_parameters=rope(kind, draw),
        attention_bias=number in (0, 3, 4),
        mlp_bias=number in (1, 3),
        tie_word_embeddings=number % 2 == 0,
        rms_norm_eps=draw.choice([1e-6, 1e-5, 1e-3]),
        hidden_act=draw.choice(["silu", "gelu", "gelu_pytorch_tanh", "relu"]),
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def drawn_gpt2(number, draw):
    heads = [1, 2, 4, 2, 3][number]
    config = GPT2Config(
        vocab_size=draw.randint(60, 120),
        n_embd=heads * [6, 18, 80, 10, 24][number],
        n_head=heads,
        n_layer=draw.randint(1, 3),
        n_positions=64,
        n_inner=draw.choice([None, 50]),
        tie_word_embeddings=number % 2 == 0,
        layer_norm_epsilon=draw.choice([1e-5, 1e-3]),
        activation_function=draw.choice(["gelu_new", "gelu", "relu"]),
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


CASES = [("llama", number) for number in range(6)] + [("gpt2", number) for number in range(5)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{SCALINGS[case[1]] if case[0] == 'llama' else case[1]}")
def saved(request, draw, tmp_path):
    """A random model of transformers and the folder that transformers saved it to."""
    family, number = request.param
    model = (drawn_llama(number, draw) if family == "llama" else drawn_gpt2(number, draw)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
        else:
            parameter.data += torch.randn(parameter.shape) * 0.2
    shards = draw.choice(["1GB", "20KB"])
    model.save_pretrained(tmp_path / "theirs", max_shard_size=shards)
    print(model.config)
    return model, tmp_path / "theirs"


def read_all(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


@torch.no_grad()
def test_logits_equal(saved):
    theirs, folder = saved
    ours = load_model(open_folder(folder))
    for rows, tokens in ((2, 32), (1, 1), (3, 48)):
        is_dynamic = any(
            isinstance(getattr(block.mixer.position, "scaling", None), DynamicScalingSpec) for block in ours.spec.blocks
        )
        if is_dynamic:
            theirs = AutoModelForCausalLM.from_pretrained(folder)  # it keeps what earlier calls made it grow to
        ids = torch.randint(0, ours.spec.vocab, (rows, tokens))
        wanted = theirs(ids).logits
        worst = (ours(ids) - wanted).abs().max()
        assert worst <= 1e-4 * wanted.abs().max()


@torch.no_grad()
def test_load_then_save_is_bitwise_and_transformers_reads_it(saved, tmp_path):
    theirs, folder = saved
    opened = open_folder(folder)
    with durable_folder(tmp_path / "ours") as draft:
        save_model(load_model(opened), draft, generation=opened.generation, tokenizer_files={})
    before, after = read_all(folder), read_all(tmp_path / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor.view(torch.uint8), after[name].view(torch.uint8)), name
    back, report = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(0, theirs.config.vocab_size, (2, 20))
    torch.testing.assert_close(back(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-4)
    assert open_folder(tmp_path / "ours").spec == opened.spec


@torch.no_grad()
def test_the_words_of_transformers_4_mean_the_same(saved):
    """rope_theta and rope_scaling beside each other, torch_dtype instead of dtype."""
    _, folder = saved
    before = open_folder(folder).spec
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["torch_dtype"] = config.pop("dtype", "float32")
    if "rope_parameters" in config:
        words = config.pop("rope_parameters")
        config["rope_theta"] = words.pop("rope_theta")
        words["type"] = words.pop("rope_type")
        config["rope_scaling"] = None if words["type"] == "default" else words
    file.write_text(json.dumps(config))
    assert open_folder(folder).spec == before
