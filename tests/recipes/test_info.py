"""What ``lamoid info`` counts equals what the files hold, and what the operations cost by hand."""

import json
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import encode_spec
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes.info import Node, info
from lamoid.verbs.llama import Llama

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
LLAMA = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 56, "max_position_embeddings": 64, **HEADS}
PEERS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama tied": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=24, n_layer=2, n_head=4, n_positions=32)),
}


def leaves(node: Node) -> list[Node]:
    return [node] if node.shape is not None else [leaf for part in node.parts for leaf in leaves(part)]


@pytest.mark.parametrize("kind", PEERS)
def test_counts_equal_transformers_and_the_files(kind: str, tmp_path: Path) -> None:
    peer = PEERS[kind]()
    peer.save_pretrained(tmp_path / "peer")
    found = info(tmp_path / "peer")
    assert found.parameters == found.stored_numbers == found.tree.parameters == peer.num_parameters()
    assert found.parameters == sum(leaf.parameters for leaf in leaves(found.tree))
    assert found.stored_bytes == 4 * found.parameters
    assert found.family == kind.split()[0]
    assert any("0 .. " in line and "alike" in line for line in found.lines())


def test_flops_and_cache_bytes_by_hand(tmp_path: Path) -> None:
    PEERS["llama"]().bfloat16().save_pretrained(tmp_path / "peer")
    found = info(tmp_path / "peer")
    matrices = 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 56) + 97 * 32
    reading = 3 * 4 * 32  # scores and mixture: 2 x 2 operations for each number of the queries and token seen
    assert found.flops_of_first_token == 2 * matrices + reading
    assert found.flops_per_token == 2 * matrices + reading * (64 + 1) // 2
    assert found.cache_bytes_per_token == 3 * 2 * 16 * 2
    assert found.dtypes == ["bfloat16"]


def test_weights_are_not_read(tmp_path: Path) -> None:
    model = LanguageModel(Shape(width=32, tied=True).spec(64))
    initialise(model, 0)
    Llama(model).save(tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1000:] = b"\xff" * 1000
    weights.write_bytes(data)
    found = info(tmp_path / "a")
    assert found.parameters == found.stored_numbers == model.spec.parameters()
    assert not found.has_tokenizer


def test_a_spec_alone_is_described(tmp_path: Path) -> None:
    spec = Shape(family="gpt2", width=48, heads=4, layers=2).spec(100)
    (tmp_path / "spec.json").write_bytes(encode_spec(spec))
    found = info(tmp_path / "spec.json")
    with torch.device("meta"):
        model = LanguageModel(spec)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.family == "gpt2"


def test_the_command_prints_the_tree_and_the_same_as_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    PEERS["gpt2"]().save_pretrained(tmp_path / "peer")
    assert run(["info", str(tmp_path / "peer")]) == 0
    assert "feedforward (Plain)" in capfd.readouterr().out
    assert run(["info", str(tmp_path / "peer"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(msgspec.json.encode(info(tmp_path / "peer")))
    assert run(["info", str(tmp_path / "nothing")]) == 2


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        info(tmp_path)
    with pytest.raises(InputError):
        info(tmp_path / "nothing")
