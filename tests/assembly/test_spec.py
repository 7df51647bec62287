"""Specs: two written forms, limits before allocation, and errors that name the field."""

import msgspec
import pytest

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.norm import LayerNormSpec, RMSNormSpec
from lamoid.assembly.position import (
    DynamicScalingSpec,
    LinearScalingSpec,
    Llama3ScalingSpec,
    RotarySpec,
    YarnScalingSpec,
)
from lamoid.assembly.spec import decode_spec, encode_spec, read_spec
from lamoid.errors import InputError

LLAMA = Shape(width=32, layers=3, heads=4, kv_heads=2, context=64).spec(vocab=50)
GPT2 = Shape(family="gpt2", width=32, layers=2, heads=4, context=64, tied=False).spec(vocab=50)

TOML = """
width = 32
vocab = 50
context = 64
norm = { kind = "rms_norm", epsilon = 1e-5 }
[embedding]
kind = "tokens"
[heads.next_token]
kind = "next_token"
linear = { kind = "tied" }
[[blocks]]
repeat = 3
kind = "block"
norm_mixer = { kind = "rms_norm", epsilon = 1e-5 }
mixer = { kind = "attention", heads = 4, kv_heads = 2, head_width = 8 }
norm_feedforward = { kind = "rms_norm", epsilon = 1e-5 }
feedforward = { kind = "gated", hidden = 88 }
"""


@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_json_round_trip(spec):
    assert decode_spec(encode_spec(spec), file="spec.json") == spec


def test_toml_with_repeat_is_the_same_model(tmp_path):
    path = tmp_path / "model.toml"
    path.write_text(TOML)
    assert read_spec(path) == LLAMA


def test_groups_repeat_and_nest(tmp_path):
    path = tmp_path / "model.toml"
    body = TOML.replace("[[blocks]]\nrepeat = 3\n", "[[blocks]]\nrepeat = 2\n[[blocks.blocks]]\nrepeat = 5\n")
    path.write_text(body)
    assert len(read_spec(path).blocks) == 10


@pytest.mark.parametrize("times", ["0", "-1", "1000000000", "1.5", "true", '"3"'])
def test_bad_repeat_is_refused_at_once(tmp_path, times):
    path = tmp_path / "model.toml"
    path.write_text(TOML.replace("repeat = 3", f"repeat = {times}"))
    with pytest.raises(InputError, match="repeat"):
        read_spec(path)


def test_nested_repeats_cannot_multiply_past_the_limit(tmp_path):
    path = tmp_path / "model.toml"
    body = TOML.replace("[[blocks]]\nrepeat = 3\n", "[[blocks]]\nrepeat = 9999\n[[blocks.blocks]]\nrepeat = 9999\n")
    path.write_text(body)
    with pytest.raises(InputError, match=f"more than {MOST_LAYERS}"):
        read_spec(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"attention"', '"atention"', "mixer"),
        ("width = 32", "width = 0", "width"),
        ("width = 32", "width = 1e3", "width"),
        ("epsilon = 1e-5", "epsilon = nan", "epsilon"),
        ("epsilon = 1e-5", "epsilon = 0.0", "epsilon"),
        ("kv_heads = 2", "kv_heads = 3", "kv_heads"),
        ("head_width = 8", "head_width = 7", "head_width"),
        ("vocab = 50", "vocab = true", "vocab"),
        ("vocab = 50", "vocab = 50\nvocabulary = 1", "vocabulary"),
        ("vocab = 50", "vocab = 9223372036854775807", "vocab"),
    ],
)
def test_a_bad_field_is_named(tmp_path, old, new, named):
    path = tmp_path / "model.toml"
    path.write_text(TOML.replace(old, new, 1))
    with pytest.raises(InputError, match=named) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b"\xff", b'{"width": 1}', b"[" * 100_000, b'{"width": NaN}']
)
def test_json_that_is_no_spec(data):
    with pytest.raises(InputError, match=r"spec\.json"):
        decode_spec(data, file="spec.json")


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(InputError):
        read_spec(tmp_path / name)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_floats_are_finite_and_positive(bad):
    for make in (
        lambda: RMSNormSpec(bad),
        lambda: LayerNormSpec(bad),
        lambda: RotarySpec(base=bad),
        lambda: LinearScalingSpec(bad),
        lambda: DynamicScalingSpec(bad, 16),
        lambda: Llama3ScalingSpec(bad, 1.0, 4.0, 16),
        lambda: YarnScalingSpec(bad, 16, 1.0),
    ):
        with pytest.raises(InputError):
            make()


def test_a_spec_is_frozen():
    with pytest.raises(AttributeError):
        LLAMA.width = 3


def test_counts_are_checked_before_anything_is_built():
    with pytest.raises(InputError, match="heads x head_width"):
        AttentionSpec(heads=1 << 15, kv_heads=1, head_width=1 << 15)
    with pytest.raises(InputError, match="number of blocks"):
        msgspec.structs.replace(LLAMA, blocks=())
