"""What ``lamoid export`` writes, llama.cpp reads as the same tokens and answers with the same text.

``LAMOID_LLAMA_CPP`` names the interpreter of an environment that has llama-cpp-python, which ``make soak`` builds from
source; without it every test here is skipped.
"""

import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
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

from lamoid.recipes.export import export
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import load

PEER = os.environ.get("LAMOID_LLAMA_CPP", "")
pytestmark = [
    pytest.mark.skipif(not PEER, reason="LAMOID_LLAMA_CPP names no interpreter with llama-cpp-python (make soak)"),
    pytest.mark.timeout(600),
]
HARD = [
    "",
    " ",
    "  two  spaces   three ",
    "Hello, world! I'm 1234567 years old; she'll say they'VE 3.14.",
    "\n\n\ttabs and\r\nlines\n \n",
    "Ünïcödé, naïve café, Straße, ﬁ, e\u0301",
    "你好，世界。今天天气很好！日本語のテキスト",
    "🦙🚀 emojis 👩‍👩‍👧 \u200d\u00a0nbsp",
    "<s> </s> <|endoftext|> <unk> <0x0A> <|begin_of_text|>",
    "def f(x):\n    return {'a': [1, 2]}  # ok ====----",
    "нещо на Български, ქართული, עברית, العربية",
    "a" * 200 + " " * 50 + "!?" * 40,
    "\x00\x01\x7f\ufffd",
]
ALPHABET = " \t\n\r'.,!?aAsSéß你1234 ▁\u0301🦙٣\u200d\u00a0<>|_ⅣǅΩ"
SIZES: dict[str, Any] = {
    "vocab_size": 352,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.5, 2.0, 3.0, 4.0]}
Config = Callable[[], PretrainedConfig]
MODELS: dict[str, Config] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama-tied": lambda: LlamaConfig(**{**SIZES, "tie_word_embeddings": True}),
    "llama-biases": lambda: LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama-wide-heads": lambda: LlamaConfig(**SIZES, head_dim=32),
    "llama-llama3": lambda: LlamaConfig(**SIZES, rope_scaling=LLAMA_3),
    "llama-linear": lambda: LlamaConfig(**SIZES, rope_scaling={"rope_type": "linear", "factor": 3.0}),
    "llama-yarn": lambda: LlamaConfig(**SIZES, rope_scaling=YARN),
    "llama-yarn-strength": lambda: LlamaConfig(**SIZES, rope_scaling={**YARN, "attention_factor": 1.3}),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=None),
    "mistral-window": lambda: MistralConfig(**SIZES, sliding_window=96),
    "mixtral": lambda: MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen2-yarn": lambda: Qwen2Config(**SIZES, rope_scaling=YARN),
    "qwen3": lambda: Qwen3Config(**{**SIZES, "tie_word_embeddings": True}, head_dim=32),
    "smollm3": lambda: SmolLM3Config(**SIZES),
    "olmo2": lambda: Olmo2Config(**SIZES),
    "olmo2-tied": lambda: Olmo2Config(**{**SIZES, "tie_word_embeddings": True}),
    "phi3": lambda: Phi3Config(**SIZES, sliding_window=None),
    "phi3-portion": lambda: Phi3Config(**SIZES, sliding_window=None, partial_rotary_factor=0.5),
    "phi3-long": lambda: Phi3Config(
        **{**SIZES, "max_position_embeddings": 512},
        sliding_window=None,
        partial_rotary_factor=0.5,
        original_max_position_embeddings=256,
        rope_scaling=LONG,
    ),
}
TOKENS = 40


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Byte pairs of a few lines."""
    return train_tokenizer(["the quick brown fox jumps over the lazy dog. " * 20, *HARD], vocab=330)


def ask(file: Path, *, texts: list[str], prompts: list[list[int]], context: int) -> dict[str, Any]:
    """Put a question to llama.cpp."""
    asked = {"file": str(file), "texts": texts, "prompts": prompts, "tokens": TOKENS, "context": context}
    done = subprocess.run(
        [PEER, str(Path(__file__).with_name("llama_cpp_peer.py"))],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def greedy(folder: Path, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """Give the likeliest tokens behind a prompt, each from a whole pass, and the logits behind the prompt."""
    llama = load(folder, dtype="float32")
    ids, logits = list(prompt), torch.empty(0)
    with torch.no_grad():
        for step in range(TOKENS):
            last = llama.model(torch.tensor([ids]))[0, -1]
            logits = last if step == 0 else logits
            token = int(last.argmax())
            if token in llama.ends:
                break
            ids.append(token)
    return ids[len(prompt) :], logits


@pytest.mark.parametrize("name", MODELS)
def test_random_models_of_each_family(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = MODELS[name]()
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms of one and biases of zero would hide a mistake
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(tmp_path / "model")
    for file, data in tokenizer.files().items():
        (tmp_path / "model" / file).write_bytes(data)
    done = export(tmp_path / "model", out=tmp_path / "m.gguf", type="f32")
    prompts = [tokenizer.prompt(text) for text in ("the quick", "dog over fox. the lazy brown")]
    said = ask(tmp_path / "m.gguf", texts=HARD, prompts=prompts, context=min(256, done.context))
    assert said["ids"] == tokenizer.encode_many(HARD)
    for prompt, written, theirs in zip(prompts, said["written"], said["logits"], strict=True):
        ours, logits = greedy(tmp_path / "model", prompt)
        assert float((torch.tensor(theirs) - logits).abs().max() / logits.abs().max()) < 1e-4
        assert written == ours


def test_stories_in_every_type(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "stories260K" / "hf"
    llama = load(folder)
    texts = ["Once upon a time", "Lily and Tom", 'The dog said: "Hello!"']
    prompts = [llama.tokenizer.prompt(text) for text in texts]
    for kind in ("f32", "f16", "bf16", "q8_0"):
        export(folder, out=tmp_path / f"{kind}.gguf", type=kind)
        said = ask(tmp_path / f"{kind}.gguf", texts=[*HARD, *texts], prompts=prompts, context=256)
        assert said["ids"] == llama.tokenizer.encode_many([*HARD, *texts])
        assert said["whole"][-3:] == prompts
        logits = [greedy(folder, prompt)[1] for prompt in prompts]
        apart = max(
            float((torch.tensor(theirs) - ours).abs().max() / ours.abs().max())
            for theirs, ours in zip(said["logits"], logits, strict=True)
        )
        assert apart < {"f32": 1e-4, "f16": 5e-3, "bf16": 5e-2, "q8_0": 5e-2}[kind]
        if kind == "f32":
            assert said["text"] == llama.generate(texts, max_tokens=TOKENS)


@pytest.mark.parametrize("name", ["tok_gpt2", "tok_llama2", "tok_llama3"])
def test_known_tokenizers(name: str, data_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.read(data_folder / name)
    config = LlamaConfig(**{**SIZES, "vocab_size": tokenizer.vocab, "hidden_size": 8, "num_hidden_layers": 1})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    for file, data in tokenizer.files().items():
        (tmp_path / "model" / file).write_bytes(data)
    export(tmp_path / "model", out=tmp_path / "m.gguf", type="f16")
    draw = random.Random(0)
    noise = ["".join(draw.choices(ALPHABET, k=draw.randint(1, 40))) for _ in range(500)]
    said = ask(tmp_path / "m.gguf", texts=[*HARD, *noise], prompts=[], context=16)
    assert said["ids"] == tokenizer.encode_many([*HARD, *noise])
    assert said["whole"][1:] == [tokenizer.prompt(text) for text in [*HARD[1:], *noise]]


def test_one_token_a_character(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(HARD[:8], kind="characters", vocab=300)
    config = LlamaConfig(**{**SIZES, "vocab_size": 300})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    for file, data in tokenizer.files().items():
        (tmp_path / "model" / file).write_bytes(data)
    export(tmp_path / "model", out=tmp_path / "m.gguf", type="f32")
    said = ask(tmp_path / "m.gguf", texts=HARD, prompts=[], context=16)
    assert said["ids"] == tokenizer.encode_many(HARD)
