"""A fresh model from a description: the same seed gives the same bits, and what does not fit is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.spec import encode_spec
from lamoid.errors import InputError
from lamoid.recipes.assemble import assemble
from lamoid.text.training import train_tokenizer

SHAPE = Shape(width=16, layers=2, heads=2, context=32)


def test_the_same_seed_gives_the_same_bits_from_every_form(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d"], vocab=260)
    spec = SHAPE.spec(tokenizer.vocab)
    (tmp_path / "spec.json").write_bytes(encode_spec(spec))
    forms: list[Any] = [SHAPE, spec, tmp_path / "spec.json", str(tmp_path / "spec.json")]
    made = [assemble(form, tokenizer=tokenizer, seed=3) for form in forms]
    for llama in made[1:]:
        assert llama.spec == spec
        for one, other in zip(llama.model.parameters(), made[0].model.parameters(), strict=True):
            assert torch.equal(one, other)
    other = assemble(spec, tokenizer=tokenizer, seed=4)
    assert not torch.equal(other.model.embedding.tokens.weight, made[0].model.embedding.tokens.weight)
    assert isinstance(made[0].generate("a", max_tokens=3), str)


def test_a_tokenizer_may_be_a_folder(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d"], vocab=260)
    for name, data in tokenizer.files().items():
        (tmp_path / name).write_bytes(data)
    assert assemble(SHAPE, tokenizer=tmp_path).tokenizer.fingerprint() == tokenizer.fingerprint()


@pytest.mark.parametrize(
    ("spec", "more", "culprit"),
    [
        (SHAPE, {}, "tokenizer"),
        (SHAPE.spec(10), {"tokenizer": train_tokenizer(["a b c d"], vocab=260)}, "spec: vocab"),
        (SHAPE.spec(10), {"seed": -1}, "seed"),
        (SHAPE.spec(10), {"seed": 1.5}, "seed"),
        (3, {}, "spec"),
        ("no-such-file.json", {}, "no-such-file.json"),
    ],
)
def test_what_does_not_fit_is_refused(spec: Any, more: dict[str, Any], culprit: str) -> None:
    with pytest.raises(InputError) as caught:
        assemble(spec, **more)
    assert caught.value.culprit == culprit


def test_without_a_tokenizer_the_model_still_answers() -> None:
    assert assemble(SHAPE.spec(10)).model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 10)
