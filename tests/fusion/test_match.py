"""Members that do not match are refused, the first difference named, by headers and JSON alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamoid.assembly.difference import first_difference
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.fusion.match import check_match, check_tokenizers
from lamoid.text.training import train_tokenizer
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder, save_model
from lamoid.weights.read import Tensors

SHAPE = Shape(width=16, layers=3, heads=4, kv_heads=2, context=32)


def make(path: Path, shape: Shape = SHAPE, dtype: torch.dtype = torch.float32, vocab: int = 60) -> Path:
    model = LanguageModel(shape.spec(vocab))
    initialise(model, 0)
    with durable_folder(path) as draft:
        save_model(model.to(dtype), draft, generation=None, tokenizer_files={})
    (path / "manifest.json").unlink()
    return path


def rename_first(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(2)
    save_file(tensors, path / "model.safetensors")


def refusal(one: Path, other: Path) -> str:
    with pytest.raises(InputError) as caught:
        check_match([open_folder(one), open_folder(one), open_folder(other)])
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        ({"layers": 2}, "number of blocks is 2, in {one} it is 3"),
        ({"width": 32, "head_width": 4}, "width is 32"),
        ({"kv_heads": 4}, "blocks[0].mixer.kv_heads is 4, in {one} it is 2"),
        ({"hidden": 24}, "blocks[0].feedforward.hidden is 24"),
        ({"context": 64}, "context is 64"),
        ({"base": 500.0}, "blocks[0].mixer.position.base is 500.0"),
        ({"tied": False}, "heads.next_token.linear.kind"),
        ({"family": "gpt2", "kv_heads": 0}, "embedding.positions.kind"),
    ],
)
def test_the_first_field_that_differs_is_named(tmp_path: Path, shape: dict[str, object], field: str) -> None:
    one = make(tmp_path / "one")
    changed = {name: getattr(SHAPE, name) for name in SHAPE.__struct_fields__} | shape
    other = make(tmp_path / "other", Shape(**changed))  # pyright: ignore[reportArgumentType]
    assert field.format(one=one) in refusal(one, other)


def test_dtype_is_named_with_its_tensor(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other", dtype=torch.bfloat16)
    assert "dtype is torch.bfloat16" in refusal(one, other)
    assert "tensor " in refusal(one, other)


def test_tensors_without_weights_may_differ(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    rename_first(other)
    check_match([open_folder(one), open_folder(other)])


def test_no_number_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other", Shape(width=16, heads=4, layers=2, context=32))

    def refuse(*_: object) -> None:
        raise RuntimeError("read in bulk")

    for name in ("tensor", "read_into"):
        monkeypatch.setattr(Tensors, name, refuse)
    assert "number of blocks" in refusal(one, other)


def test_tokenizers() -> None:
    one = train_tokenizer(["to be or not to be"] * 5, vocab=270)
    same = train_tokenizer(["to be or not to be"] * 5, vocab=270)
    other = train_tokenizer(["that is the question"] * 5, vocab=270)
    check_tokenizers(["a", "b"], [one, same])
    with pytest.raises(InputError, match=r"b: its tokenizer differs: model\.(vocab|merges).* in a it is"):
        check_tokenizers(["a", "b"], [one, other])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda tree: tree["a"][1].update(b=2), "a[1].b"),
        (lambda tree: tree["a"].append(1), "number of a"),
        (lambda tree: tree.update(c=None), "c"),
        (lambda tree: tree.pop("d"), "d"),
        (lambda tree: tree.update(d=1), "d"),
        (lambda tree: None, None),
    ],
)
def test_first_difference(change: Callable[[dict], None], place: str | None) -> None:
    text = '{"a": [1, {"b": 1}], "d": 1.0}'
    tree = json.loads(text)
    change(tree)
    found = first_difference(json.loads(text), tree)
    assert (found and found[0]) == place
