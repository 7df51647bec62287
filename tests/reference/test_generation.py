"""Greedy tokens equal transformers': on real weights and on random models, alone and side by side."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import lamoid
from lamoid.inference.engine import Engine, collect
from lamoid.inference.request import Request, Settings


def documented(folder: Path) -> str:
    page = (folder / "stories260K.md").read_text(encoding="utf-8")
    return page.split("-t 0.0\n")[1].split("\n```")[0]


def test_stories260k_writes_the_documented_text(data_folder: Path) -> None:
    folder = data_folder / "stories260K"
    llama = lamoid.load(folder / "hf")
    [done] = collect(llama.write([""], Settings(max_tokens=200)), 1)
    assert len(done.ids) == 200
    assert len(done.text) > 400
    assert documented(folder).startswith(done.text)


def test_stories260k_equals_transformers(data_folder: Path) -> None:
    folder = data_folder / "stories260K" / "hf"
    llama = lamoid.load(folder)
    peer, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompts = ["", "Once upon a time", "Lily and her dog", "The", "Tom saw a big red ball.\n"]
    done = collect(llama.write(prompts, Settings(max_tokens=120)), len(prompts))
    for prompt, text in zip(prompts, done, strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        assert llama.tokenizer.prompt(prompt) == ids[0].tolist()
        wanted = peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=120, do_sample=False)
        assert list(text.ids) == wanted[0, ids.shape[1] :].tolist()
        assert llama.generate(prompt, max_tokens=120) == text.text
        whole = tokenizer.decode(wanted[0], skip_special_tokens=True)
        assert whole.endswith(text.text)


def random_llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, max_position_embeddings=64, initializer_range=0.2))


def random_gpt2(seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=97, n_embd=24, n_layer=3, n_head=4, n_positions=64, initializer_range=0.2)
    )


@pytest.mark.parametrize("make", [random_llama, random_gpt2])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_random_models_equal_transformers(make, seed: int, penalty: float, tmp_path: Path) -> None:
    peer = make(seed).eval()
    peer.generation_config.eos_token_id = 5
    peer.generation_config.bos_token_id = 1
    peer.generation_config.pad_token_id = 0
    peer.config.eos_token_id, peer.config.bos_token_id = 5, 1
    peer.save_pretrained(tmp_path / "peer")
    llama = lamoid.load(tmp_path / "peer")
    assert llama.ends == frozenset({5})
    chance = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(6, 97, (1, n), generator=chance) for n in (1, 4, 9, 30)]
    settings = Settings(max_tokens=30, repetition_penalty=penalty)
    engine = Engine(llama.model, 64, llama.ends, lambda _: Nothing(), torch.device("cpu"))
    done = engine.generate([Request(tuple(ids[0].tolist()), settings) for ids in prompts])
    for ids, text in zip(prompts, done, strict=True):
        wanted = peer.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False, repetition_penalty=penalty
        )
        assert list(text.ids) == wanted[0, ids.shape[1] :].tolist()


class Nothing:
    """A decoder for ids that stand for no text."""

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""
