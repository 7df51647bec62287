"""Positions beside transformers: sinusoids as DistilBERT has them, rotary angles with all scalings, partial widths."""

import pytest
import torch
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb

from lamoid.assembly.batch import Batch
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.position import (
    LearnedPositionSpec,
    LinearScalingSpec,
    Llama3ScalingSpec,
    LongRopeScalingSpec,
    NoScalingSpec,
    RotarySpec,
    SinusoidalPositionSpec,
    YarnScalingSpec,
    rotate,
    rotation,
    sinusoids,
)
from lamoid.assembly.scope import Scope

LONG, SHORT = tuple(1.0 + 3.0 * n for n in range(8)), tuple(1.0 + 0.1 * n for n in range(8))
SCALINGS = {
    "plain": (NoScalingSpec(), {"rope_type": "default"}),
    "linear": (LinearScalingSpec(3.0), {"rope_type": "linear", "factor": 3.0}),
    "llama3": (
        Llama3ScalingSpec(8.0, 1.0, 4.0, 64),
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "yarn": (
        YarnScalingSpec(4.0, 64, 1.1),
        {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.1, "original_max_position_embeddings": 64},
    ),
    "longrope": (
        LongRopeScalingSpec(SHORT, LONG, 64, 1.25),
        {
            "rope_type": "longrope",
            "short_factor": list(SHORT),
            "long_factor": list(LONG),
            "attention_factor": 1.25,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
}


def transformers_angles(settings, tokens):
    """Give cosines and sines (1, T, D), as every rotary embedding of transformers computes them."""
    config = PreTrainedConfig(hidden_size=32, num_attention_heads=2, head_dim=16, max_position_embeddings=256)
    config.rope_parameters = {"rope_theta": 500.0, **settings}
    if settings["rope_type"] == "default":
        frequencies, factor = 1.0 / 500.0 ** (torch.arange(0, 16, 2).float() / 16), 1.0
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[settings["rope_type"]](config, "cpu", seq_len=tokens)
    angles = torch.cat((torch.arange(tokens)[:, None] * frequencies,) * 2, dim=-1)[None]
    return angles.cos() * factor, angles.sin() * factor


@pytest.mark.parametrize("tokens", [64, 65, 200])
@pytest.mark.parametrize("name", SCALINGS)
def test_rotation_is_transformers(name, tokens):
    scaling, settings = SCALINGS[name]
    queries, keys, slope = torch.randn(3, 1, 3, tokens, 16).unbind(0)
    ours = rotation(RotarySpec(500.0, scaling), 16, torch.arange(tokens)[None], tokens, torch.float32)
    inputs = queries.requires_grad_(), keys.requires_grad_()
    wanted = apply_rotary_pos_emb(*inputs, *transformers_angles(settings, tokens))
    for x, other in zip(inputs, wanted, strict=True):
        turned = rotate(x, *ours)
        torch.testing.assert_close(turned, other, rtol=1e-4, atol=1e-4)
        gradients = [torch.autograd.grad((part * slope).sum(), x)[0] for part in (turned, other)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_longrope_goes_by_each_tokens_own_length():
    """A long and a short document in one pass have the long and the short factors."""
    spec, positions = RotarySpec(500.0, SCALINGS["longrope"][0]), torch.arange(5)[None].expand(2, 5)
    both = rotation(spec, 16, positions, torch.tensor([[64] * 5, [65] * 5]), torch.float32)
    for row, length in enumerate((64, 65)):
        alone = rotation(spec, 16, positions[:1], length, torch.float32)
        for ours, wanted in zip(both, alone, strict=True):
            torch.testing.assert_close(ours[row], wanted[0])


def test_a_portion_is_turned_and_the_rest_passes():
    x, positions = torch.randn(2, 3, 5, 16), torch.arange(5)[None]
    cosines, sines = rotation(RotarySpec(portion=0.25), 16, positions, 5, torch.float32)
    whole = rotation(RotarySpec(), 4, positions, 5, torch.float32)
    ours = rotate(x, cosines, sines)
    torch.testing.assert_close(ours[..., :4], rotate(x[..., :4], *whole))
    assert torch.equal(ours[..., 4:], x[..., 4:])


def test_scores_depend_on_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 16).unbind(0)
    scores = []
    for start in (0, 7, 100):
        turns = [rotation(RotarySpec(), 16, torch.tensor([[start + n]]), 1, torch.float32) for n in (0, 3)]
        scores.append((rotate(query, *turns[0]) * rotate(key, *turns[1])).sum())
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[2], scores[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [8, 64])
def test_sinusoids_are_distilberts(width):
    table = torch.empty(50, width)
    create_sinusoidal_embeddings(50, width, table)
    ours = sinusoids(SinusoidalPositionSpec(), torch.arange(50)[None], width, torch.float32)
    torch.testing.assert_close(ours[0], table, rtol=0, atol=1e-5)
    assert sinusoids(SinusoidalPositionSpec(), torch.arange(50)[None], 7, torch.float32).shape == (1, 50, 7)


@torch.no_grad()
def test_learned_rows_begin_behind_the_offset_and_anew_with_each_document():
    embedding = EmbeddingSpec(LearnedPositionSpec(offset=2)).build(Scope(4, 9, 16))
    assert embedding.positions.weight.shape == (18, 4)
    for parameter in embedding.parameters():
        parameter.normal_()
    ids, segments = torch.randint(0, 9, (1, 6)), torch.tensor([[1, 1, 1, 2, 2, 0]])
    ours = embedding(ids, plan_layout(Batch(ids, segments), None))
    wanted = embedding.tokens.weight[ids] + embedding.positions.weight[[2, 3, 4, 2, 3, 2]]
    torch.testing.assert_close(ours, wanted)
