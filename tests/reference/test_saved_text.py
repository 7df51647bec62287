"""What Lamoid saves, transformers loads by its Auto classes and continues with the same text."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama, load

TEXT = ["To be, or not to be, that is the question.", "千里之行，始於足下。", "def f(x):\n    return x + 1\n"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_transformers_writes_the_same_greedy_text(family, kind, tmp_path):
    tokenizer = train_tokenizer(TEXT, kind=kind, vocab=300)
    spec = Shape(family=family, width=32, layers=2, heads=4, context=128).spec(tokenizer.vocab)
    model = LanguageModel(spec)
    initialise(model, seed=4, deviation=0.3)
    Llama(model, tokenizer).save(tmp_path / "saved")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    reader = AutoTokenizer.from_pretrained(tmp_path / "saved")
    ours = load(tmp_path / "saved")
    for prompt in ["To be", "千里", "def f(", " x ", "<|endoftext|"]:
        read = reader(prompt, return_tensors="pt")
        with torch.no_grad():
            written = theirs.generate(**read, do_sample=False, max_new_tokens=40, pad_token_id=0)[0]
        expected = reader.decode(written[read["input_ids"].shape[1] :], skip_special_tokens=True)
        assert ours.generate(prompt, max_tokens=40) == expected
