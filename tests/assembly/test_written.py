"""Abbreviations are the same spec as the long form, in TOML and in JSON."""

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lamoid.assembly.attention import AttentionSpec, HeadNormSpec
from lamoid.assembly.block import BlockSpec, PostSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec, RMSNormSpec
from lamoid.assembly.position import LearnedPositionSpec
from lamoid.assembly.spec import ModelSpec, encode_spec, encode_toml, read_spec
from lamoid.assembly.wiring import CrossSpec, GateSpec, ParallelSpec, SerialSpec, StackSpec
from lamoid.assembly.written import read_written
from lamoid.errors import InputError

ATTENTION = AttentionSpec(heads=4, kv_heads=4, head_width=4)
MIXER = {"kind": "attention", "heads": 4, "head_width": 4}
PLAIN, FEEDFORWARD = PlainSpec(8), {"kind": "plain", "hidden": 8}
HEADS = {"next_token": NextTokenSpec(TiedSpec())}


def spec_of(*blocks: Any, **more: Any) -> ModelSpec:
    return ModelSpec(16, 9, 8, blocks=blocks, heads=HEADS, **more)


# what is written as blocks, and what it is
BLOCKS: list[tuple[list[Any], tuple[Any, ...]]] = [
    ([{"mixer": MIXER}], (BlockSpec(ATTENTION),)),
    ([{"feedforward": FEEDFORWARD}], (BlockSpec(feedforward=PLAIN),)),
    ([{"mixer": MIXER, "repeat": 3}], (BlockSpec(ATTENTION),) * 3),
    (
        [{"repeat": 2, "blocks": [{"mixer": MIXER}, {"feedforward": FEEDFORWARD, "repeat": 2}]}],
        (BlockSpec(ATTENTION), BlockSpec(feedforward=PLAIN), BlockSpec(feedforward=PLAIN)) * 2,
    ),
    ([{"kind": "serial", "repeat": 2, "blocks": [{"mixer": MIXER}]}], (SerialSpec((BlockSpec(ATTENTION),)),) * 2),
    (
        [{"kind": "parallel", "merge": "gate", "branches": {"a": [], "b": {"mixer": MIXER}}}],
        (ParallelSpec({"a": SerialSpec(()), "b": BlockSpec(ATTENTION)}, GateSpec()),),
    ),
    (
        [{"kind": "cross", "memory": {"kind": "stack", "blocks": [{"mixer": MIXER}]}, "reader": [{"mixer": MIXER}]}],
        (CrossSpec(StackSpec((BlockSpec(ATTENTION),)), SerialSpec((BlockSpec(ATTENTION),))),),
    ),
    (
        [{"mixer": {**MIXER, "query": {"bias": True}, "query_key_norm": {"kind": "per_head", "norm": "rms_norm"}}}],
        (
            BlockSpec(
                AttentionSpec(heads=4, head_width=4, query=DenseSpec(True), query_key_norm=HeadNormSpec(RMSNormSpec()))
            ),
        ),
    ),
    (
        [{"order": "post", "norm_feedforward": "layer_norm", "feedforward": FEEDFORWARD}],
        (BlockSpec(feedforward=PLAIN, norm_feedforward=LayerNormSpec(), order=PostSpec()),),
    ),
    (
        [{"feedforward": {"kind": "experts", "experts": [{"kind": "gated", "hidden": 4, "repeat": 3}, FEEDFORWARD]}}],
        (BlockSpec(feedforward=ExpertsSpec((GatedSpec(4),) * 3 + (PLAIN,))),),
    ),
]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
@pytest.mark.parametrize("form", ["toml", "json"])
def test_an_abbreviation_is_the_long_form(number: int, form: str, tmp_path: Path) -> None:
    written, meant = BLOCKS[number]
    tree = {"width": 16, "vocab": 9, "context": 8, "blocks": written, "heads": {"next_token": tied("tied")}}
    path = tmp_path / f"a.{form}"
    text = json.dumps(tree) if form == "json" else encode_toml(tree)  # type: ignore[arg-type]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = read_spec(path)
    assert spec == spec_of(*meant)
    again = tmp_path / "again.toml"
    again.write_bytes(encode_toml(spec))
    assert read_spec(again) == spec
    (tmp_path / "again.json").write_bytes(encode_spec(spec))
    assert read_spec(tmp_path / "again.json") == spec


def tied(linear: Any) -> dict[str, Any]:
    return {"kind": "next_token", "linear": linear}


def test_what_may_be_left_out_of_a_model() -> None:
    tree = {"width": 16, "vocab": 9, "context": 8, "blocks": [{"mixer": MIXER}], "heads": {"next_token": tied("tied")}}
    whole = spec_of(BlockSpec(ATTENTION), embedding=EmbeddingSpec(), norm=RMSNormSpec())
    assert read_written(tree, ModelSpec, "a") == whole
    other = {**tree, "norm": "none", "embedding": {"positions": {"kind": "learned", "offset": 2}}}
    meant = spec_of(BlockSpec(ATTENTION), embedding=EmbeddingSpec(LearnedPositionSpec(2)), norm=NoNormSpec())
    assert read_written(other, ModelSpec, "a") == meant


def test_heads_without_kv_heads_have_one_key_for_each() -> None:
    assert AttentionSpec(heads=6, head_width=4) == AttentionSpec(heads=6, kv_heads=6, head_width=4)
    assert msgspec.json.decode(msgspec.json.encode(ATTENTION))["kv_heads"] == 4
    assert msgspec.structs.replace(ATTENTION, heads=8).kv_heads == 4


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"repeat": 2}, "does not say its kind"),
        ({"blocks": [{"mixer": "none"}], "kind": "serial", "repeat": 1.5}, r"blocks\[0\].repeat: is 1.5"),
        ({"mixer": {"kind": "attention", "heads": 4, "head_width": 4, "repeat": 2}}, r"blocks\[0\].mixer.repeat"),
        ("attention", r"blocks\[0\].kind: 'attention' is not known here"),
        (3, "is 3, must be a table"),
        ({"mixer": "none"}, r"blocks\[0\]: has neither a mixer nor a feedforward"),
        ({"mixer": "lstm"}, r"blocks\[0\].mixer.hidden: is missing"),
    ],
)
def test_what_is_no_abbreviation(value: Any, problem: str) -> None:
    tree = {"width": 16, "vocab": 9, "context": 8, "blocks": [value], "heads": {"next_token": tied("tied")}}
    with pytest.raises(InputError, match=problem):
        read_written(tree, ModelSpec, "a.toml")


def test_places_are_those_of_the_file() -> None:
    text = """
    width = 16
    vocab = 9
    context = 8
    heads = { a = "next_token" }
    [[blocks]]
    repeat = 5
    feedforward = { kind = "plain", hidden = 8 }
    [[blocks]]
    repeat = 2
    [[blocks.blocks]]
    kind = "parallel"
    branches = { left = [{ feedforward = { kind = "plain", hidden = 8 } }, { mixer = { kind = "lstm", hidden = 0 } }] }
    """
    with pytest.raises(InputError) as caught:
        read_written(tomllib.loads(text), ModelSpec, "a.toml")
    assert caught.value.culprit == "a.toml: blocks[1].blocks[0].branches.left[1].mixer.hidden"
