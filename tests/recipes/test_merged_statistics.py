"""RegMean++ beside whole passes through models of which the first layers are fused and the others a member's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.fusion.rules.regmean import RegmeanOptions
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.statistics.gram import gathering_grams
from lamoid.recipes.fuse import fuse
from lamoid.recipes.merged_statistics import merged_grams, merging
from lamoid.recipes.statistic_examples import ask
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama
from lamoid.weights.folder import load_model, open_folder

VOCAB = 40
TEXTS = [f"document {n}: the {('quick', 'lazy', 'sly')[n % 3]} fox jumps over {n * 7} dogs.\n" for n in range(40)]


def make_models(count: int, **shape: Any) -> list[LanguageModel]:
    models = []
    for seed in range(count):
        model = LanguageModel(Shape(**{"width": 16, "layers": 3, "heads": 2, "context": 32, **shape}).spec(VOCAB))
        initialise(model, seed, deviation=0.3)
        models.append(model)
    return models


def settings(name: str) -> Any:
    return [0.4, 0.6], RegmeanOptions(alpha=0.8)


def test_each_layer_was_asked_behind_fused_ones() -> None:
    members, (merged,) = make_models(2), make_models(1)
    rows = [[torch.randint(VOCAB, (1, 20)) for _ in range(4)] for _ in members]
    merge = merging(RULES["regmean_plusplus"], settings, str, 1 << 28)
    found = merged_grams(members, merged, rows, merge)
    states = [{name: part.detach() for name, part in member.named_parameters()} for member in members]
    fused = merge(states, found)
    for name, parameter in merged.named_parameters():  # what the loop went through is what the rule makes at the end
        torch.testing.assert_close(fused[name], parameter.detach(), rtol=1e-5, atol=1e-6)
    parts = ["embedding", *(f"blocks.{index}" for index in range(3)), "norm", "heads"]
    for member, own, grams in zip(members, rows, found, strict=True):
        asked = set()
        for number, part in enumerate(parts):
            (mixed,) = make_models(1)
            mixed.load_state_dict(
                {
                    name: fused[name] if any(name.startswith(f"{p}.") for p in parts[:number]) else parameter.detach()
                    for name, parameter in member.named_parameters()
                }
            )
            with gathering_grams(mixed) as wanted:
                for row in own:
                    ask(mixed, row)
            for name in (name for name in wanted if name.startswith(f"{part}.")):
                asked.add(name)
                torch.testing.assert_close(grams[name], wanted[name], rtol=1e-4, atol=1e-5)
        assert asked == set(grams)
        assert len(asked) >= 3 * 6


def test_it_is_a_rule_of_fusions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer(TEXTS, vocab=280)
    for seed, name in enumerate("ab"):
        model = LanguageModel(Shape(width=16, layers=2, heads=2, context=32).spec(tokenizer.vocab))
        initialise(model, seed, deviation=0.2)
        Llama(model, tokenizer).save(name)
    Path("text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    with pytest.raises(InputError, match=r"statistics: is not given, which regmean_plusplus needs"):
        fuse(["a", "b"], out="out", rule="regmean_plusplus", weights="1,1")
    with pytest.raises(InputError, match="hangs on all members"):
        fuse(["a", "b"], on="text.jsonl", out="out", rule="regmean_plusplus", weights="1,1", statistics=["a", "b"])
    fused = {}
    for rule in ("regmean", "regmean_plusplus"):
        fuse(["a", "b"], on="text.jsonl", out=rule, rule=rule, weights="1,1")
        fused[rule] = dict(load_model(open_folder(rule)).named_parameters())
    different = [name for name, x in fused["regmean"].items() if not torch.equal(x, fused["regmean_plusplus"][name])]
    assert any(name.startswith("blocks.1.") for name in different)
    assert not any(name.startswith("embedding.") for name in different)
    fuse(["regmean_plusplus/fusion.toml"], out="again")
    again = dict(load_model(open_folder("again")).named_parameters())
    assert all(torch.equal(tensor, again[name]) for name, tensor in fused["regmean_plusplus"].items())


def test_the_memory_that_a_rule_of_products_takes_is_said_before_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer(TEXTS, vocab=280)
    for name in "ab":
        model = LanguageModel(Shape(width=64, layers=1, heads=2, context=8, hidden=1200).spec(tokenizer.vocab))
        initialise(model, 0)
        Llama(model, tokenizer).save(name)
    Path("text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    checked = fuse(["a", "b"], out="out", rule="regmean", memory="100MiB", check=True).checked
    assert checked is not None
    with pytest.raises(InputError, match=rf"memory: is \d+ bytes, the rule needs {checked.memory} for the .*down_proj"):
        fuse(["a", "b"], on="text.jsonl", out="out", rule="regmean", memory="100MiB")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "text.jsonl"]
