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
from lamoid.recipes.info import info
from lamoid.recipes.spec_tree import Node
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
    assert any(line.strip().startswith("0 .. ") and " times" in line for line in found.lines())


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
    assert "feedforward: plain" in capfd.readouterr().out
    assert run(["info", str(tmp_path / "peer"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads(msgspec.json.encode(info(tmp_path / "peer")))
    assert run(["info", str(tmp_path / "nothing")]) == 2


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        info(tmp_path)
    with pytest.raises(InputError):
        info(tmp_path / "nothing")


SHARED = """
width = 32
vocab = 50
context = 64
[[blocks]]
repeat = 6
mixer = { kind = "attention", heads = 4, head_width = 8 }
feedforward = { kind = "gated", hidden = 40 }
[heads]
next_token = { kind = "next_token", linear = "tied" }
tags = { kind = "tags", count = 3 }
[[sharing]]
paths = ["blocks.*.feedforward"]
[[sharing]]
paths = ["blocks.::2.mixer"]
"""


def find(node: Node, path: str) -> Node:
    for name in path.split("."):
        node = next(part for part in node.parts if part.name == name)
    return node


def test_shared_parts_say_what_they_share_and_count_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SHARED)
    found = info(tmp_path / "a.toml")
    attention, gated = 4 * 32 * 32, 3 * 32 * 40
    own = 50 * 32 + 32 + 3 * 32 + 3 + 12 * 32  # table, norms and the head of tags
    assert found.parameters == own + 4 * attention + gated
    assert found.parameters == sum(leaf.parameters for leaf in leaves(found.tree)) == found.tree.parameters
    first, third = (find(found.tree, f"blocks.{number}") for number in (0, 2))
    assert (find(first, "feedforward").parameters, find(third, "feedforward").parameters) == (gated, 0)
    assert find(third, "feedforward").shares == find(first, "feedforward").shares == "blocks.0.feedforward"
    assert find(third, "mixer").shares == "blocks.0.mixer"
    assert find(found.tree, "blocks.1.mixer").shares is None
    assert find(found.tree, "heads.next_token").shares == "embedding"
    text = "\n".join(found.lines())
    assert "= blocks.0.feedforward" in text
    assert "0 .. 5: 3 times these 2" in text
    assert found.heads == ["next_token", "tags"]


def test_figures_of_the_parts_add_up_to_those_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SHARED)
    found = info(tmp_path / "a.toml").tree
    blocks = [find(found, f"blocks.{number}") for number in range(6)]
    total = find(found, "embedding").flops + find(found, "heads.next_token").flops + sum(b.flops for b in blocks)
    assert found.flops == total == info(tmp_path / "a.toml").flops_per_token
    assert found.cache_numbers == sum(block.cache_numbers for block in blocks) == 6 * 2 * 32
    for block in blocks:
        assert block.flops == find(block, "mixer").flops + find(block, "feedforward").flops


def test_a_state_that_does_not_grow_is_told(tmp_path: Path) -> None:
    text = SHARED.split("[[sharing]]")[0].replace('"attention", heads = 4, head_width = 8', '"lstm", hidden = 24')
    (tmp_path / "a.toml").write_text(text)
    found = info(tmp_path / "a.toml")
    assert (found.cache_bytes_per_token, found.state_bytes_per_text) == (0, 6 * 2 * 24 * 4)
    assert any("1,152 a text" in line for line in found.lines())


def test_a_model_of_70_billion_numbers_is_described_without_them(tmp_path: Path) -> None:
    text = """
    width = 8192
    vocab = 128256
    context = 8192
    heads = { next_token = { kind = "next_token" } }
    [[blocks]]
    repeat = 80
    mixer = { kind = "attention", heads = 64, kv_heads = 8, head_width = 128 }
    feedforward = { kind = "gated", hidden = 28672 }
    """
    (tmp_path / "a.toml").write_text(text)
    before = resident()
    found = info(tmp_path / "a.toml")
    assert found.parameters == 70_553_706_496  # what Meta's Llama 3 70B has
    assert found.layers == 80
    assert resident() - before < 2**28
    assert len(found.lines()) < 45


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_nested_connections_are_a_tree(tmp_path: Path) -> None:
    spec = Path(__file__).parents[2] / "examples" / "models" / "t5.toml"
    lines = info(spec).lines()
    for wanted in ("memory: stack", "reader: serial", "mixer: cross_attention", "0 .. 5: 3 times these 2"):
        assert any(wanted in line for line in lines), wanted
    assert info(spec).layers == 9


def test_an_encoder_keeps_no_keys() -> None:
    told = info(Path(__file__).parents[2] / "examples" / "models" / "bert.toml")
    assert not told.is_causal
    assert "KV bytes a token  none: it sees later tokens" in told.lines()
