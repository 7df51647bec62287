"""``lamoid export``: transformers reads the file as the same model; nothing is left of what cannot be written."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config

from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes.export import Type, export
from lamoid.recipes.gguf_info import gguf_info
from lamoid.recipes.progress import Progress
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama, load
from lamoid.weights.gguf_header import read_gguf
from lamoid.weights.gguf_read import read_tensor

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, rope_theta=5e5),
    "llama tied": LlamaConfig(**SIZES, tie_word_embeddings=True, head_dim=32),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
}
BOUND: dict[Type, float] = {"f32": 1e-6, "f16": 5e-3, "bf16": 5e-2, "q8_0": 5e-2}


def saved(folder: Path, config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> Path:
    """Save a random model with a tokenizer that has fewer tokens than it has rows."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    for name, data in train_tokenizer(["the quick brown fox jumps over the dog. " * 9], vocab=300).files().items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", CONFIGS["llama"])


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_reads_the_same_model(name: str, tmp_path: Path) -> None:
    folder, home = saved(tmp_path / "model", CONFIGS[name]), tmp_path / "out"
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.randint(0, 300, (2, 20))
    with torch.no_grad():
        wanted = peer(ids).logits
    for kind, bound in BOUND.items() if name == "llama" else [("f32", 1e-6)]:
        done = export(folder, out=home / f"{kind}.gguf", type=kind)
        assert done.architecture == {"qwen2": "qwen2"}.get(name, "llama")
        found = transformers.AutoModelForCausalLM.from_pretrained(home, gguf_file=f"{kind}.gguf").eval()
        with torch.no_grad():
            logits = found(ids).logits
        assert float((logits - wanted).norm() / wanted.norm()) < bound
        assert found.config.max_position_embeddings == 64


def test_stored_numbers_come_back_bit_for_bit(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", CONFIGS["qwen2"], torch.bfloat16)
    export(folder, out=tmp_path / "m.gguf", type="bf16")
    file, model = read_gguf(tmp_path / "m.gguf"), load(folder).model
    for theirs, ours in {
        "token_embd.weight": "embedding.tokens.weight",
        "blk.1.attn_q.weight": "blocks.1.mixer.query.weight",
        "blk.0.attn_k.bias": "blocks.0.mixer.key.bias",
        "blk.1.ffn_down.weight": "blocks.1.feedforward.down.weight",
        "output_norm.weight": "norm.weight",
    }.items():
        wanted = model.get_parameter(ours).detach()
        found = read_tensor(file, theirs)
        assert found.dtype == (torch.bfloat16 if wanted.ndim == 2 else torch.float32)
        assert torch.equal(found.float(), wanted.float())


def test_a_model_that_lamoid_trained(data_folder: Path, tmp_path: Path) -> None:
    stories = load(data_folder / "stories260K" / "hf")
    stories.save(tmp_path / "saved")
    first = export(data_folder / "stories260K" / "hf", out=tmp_path / "a" / "saved.gguf", type="q8_0")
    second = export(tmp_path / "saved", out=tmp_path / "b" / "saved.gguf", type="q8_0")
    files = [read_gguf(tmp_path / name / "saved.gguf") for name in ("a", "b")]
    assert first.bytes >= second.bytes
    for name in files[0].tensors:
        assert torch.equal(read_tensor(files[0], name), read_tensor(files[1], name))
    keys = [{key: v.data for key, v in file.metadata.items() if key != "general.name"} for file in files]
    assert keys[0] == keys[1]


def test_the_command_and_info(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.gguf"
    words = ["export", str(folder), "--out", str(out), "--format", "gguf", "--type", "q8_0"]
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size
    assert told["tokenizer"] == "gpt2"
    assert run(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: {told['tensors']} tensors of q8_0")
    assert run(["info", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["tokenizer.ggml.pre", "gpt-2"] for line in lines)
    assert any(line.split() == ["blk.1.attn_k.weight", "q8_0", "32", "x", "64"] for line in lines)
    assert run(["info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == load(folder).spec.parameters()


def test_control_marks_in_metadata_do_not_reach_the_terminal(tmp_path: Path, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("\x1b[31m{{ messages }}")
    export(folder, out=tmp_path / "m.gguf")
    assert not any("\x1b" in line for line in gguf_info(tmp_path / "m.gguf").lines())


def test_progress_counts_every_number(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "said").open("w") as stream:
        done = export(folder, out=tmp_path / "m.gguf", progress=Progress(stream))
    total = load(folder).spec.parameters()
    assert f"export: {total}/{total} numbers" in (tmp_path / "said").read_text()
    assert done.type == "f16"


class Memory(Progress):
    """Notes the anonymous memory at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def advance(self, n: float = 1, **figures: float | str) -> None:
        status = Path("/proc/self/status").read_text()
        self.seen.append(int(status.partition("RssAnon:")[2].split()[0]) * 1024)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="anonymous memory is told by /proc alone")
def test_memory_is_bounded(tmp_path: Path) -> None:
    wide = {**SIZES, "intermediate_size": 8192, "hidden_size": 512, "vocab_size": 8192}
    folder = saved(tmp_path / "model", LlamaConfig(**wide))
    memory = Memory()
    export(folder, out=tmp_path / "m.gguf", type="f32", progress=memory)
    assert (tmp_path / "m.gguf").stat().st_size > 130 * 2**20
    assert len(memory.seen) > 30
    assert max(memory.seen) - memory.seen[0] < 24 * 2**20


def test_a_number_that_does_not_fit_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    llama = load(folder)
    for value, kind, said in ((float("nan"), "f32", "NaN"), (1e6, "f16", "too large for f16. Write bf16 or f32")):
        with torch.no_grad():
            llama.model.get_parameter("blocks.1.feedforward.up.weight")[3, 5] = value
        llama.save(tmp_path / "broken", overwrite=True)
        with pytest.raises(InputError, match=f"tensor 'blk.1.ffn_up.weight'.*{said}"):
            export(tmp_path / "broken", out=tmp_path / "out" / "m.gguf", type=kind)
        assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_exported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out: is .*FILE\.gguf"):
        export(folder, out=tmp_path / "m.bin")
    with pytest.raises(InputError, match="type: is 'q4_k'"):
        export(folder, out=tmp_path / "m.gguf", type="q4_k")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="format: is 'onnx'"):
        export(folder, out=tmp_path / "m.gguf", format="onnx")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="exists already"):
        export(folder, out=folder / "config.gguf") and export(folder, out=folder / "config.gguf")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        export(folder, out=tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_end_tokens_of_the_configuration_are_kept(folder: Path, tmp_path: Path) -> None:
    llama = load(folder)
    Llama(llama.model, llama.tokenizer, generation={"eos_token_id": [5, 0, 7]}, family=llama.family).save(
        tmp_path / "m"
    )
    export(tmp_path / "m", out=tmp_path / "m.gguf")
    told = read_gguf(tmp_path / "m.gguf").metadata
    roles = {role: told[f"tokenizer.ggml.{role}_token_id"].data for role in ("bos", "eos", "eot", "eom")}
    assert roles == {"bos": 0, "eos": 0, "eot": 5, "eom": 7}
