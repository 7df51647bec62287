"""Fresh weights: the same bits from the same seed, and the stated deviations."""

import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel


def made(seed, family="gpt2"):
    model = LanguageModel(Shape(family=family, width=128, layers=4, heads=4).spec(512))
    initialise(model, seed)
    return dict(model.named_parameters())


def test_a_seed_gives_the_same_bits():
    first, again, other = made(7), made(7), made(8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.tokens.weight"], other["embedding.tokens.weight"])


def test_deviations():
    weights = made(1)
    assert abs(weights["blocks.0.mixer.query.weight"].std() - 0.02) < 5e-4
    assert abs(weights["blocks.3.feedforward.down.weight"].std() - 0.02 / 8**0.5) < 2e-4
    assert (weights["blocks.0.norm_mixer.weight"] == 1).all()
    assert (weights["blocks.0.mixer.query.bias"] == 0).all()
