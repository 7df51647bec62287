"""Statistics of whole models on text, under the names of their files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lamoid.errors import InputError
from lamoid.recipes.fusion_statistics import statistics
from lamoid.weights.folder import open_folder

TEXT = "the quick brown fox jumps over the lazy dog and the dog does not mind\n"


@pytest.fixture(params=["llama", "gpt2", "phi3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small model: GPT-2 stores its maps turned and joined, Phi-3 joined."""
    from lamoid.recipes.train import train

    (tmp_path / "text.txt").write_text(TEXT * 20)
    train(
        {
            "model": {"family": request.param, "width": 16, "layers": 1, "heads": 2, "context": 16},
            "tokenizer": {"kind": "characters"},
            "data": {"train": str(tmp_path / "text.txt")},
            "training": {"steps": 1, "batch": 2},
            "log": {"tensorboard": False, "curve": False},
        },
        out=tmp_path / "run",
    )
    return tmp_path / "run" / "model"


def test_fisher_has_the_tensors_of_the_files_and_their_gradients(folder: Path, tmp_path: Path) -> None:
    found = statistics(folder, on=tmp_path / "text.txt", out=tmp_path / "stat", examples=3)
    assert found.examples == 3
    stored = load_file(tmp_path / "stat" / "model.safetensors")
    opened = open_folder(folder)
    assert set(stored) == {part.theirs for part in opened.names.parts.values()}
    assert all(stored[name].shape == torch.Size(opened.tensors[name].shape) for name in stored)
    assert all(tensor.ge(0.0).all() for tensor in stored.values())
    assert sum(bool(tensor.gt(0.0).any()) for tensor in stored.values()) >= len(stored) - 1
    again = statistics(folder, on=tmp_path / "text.txt", out=tmp_path / "again", examples=3)
    assert again.tensors == found.tensors
    for name, tensor in load_file(tmp_path / "again" / "model.safetensors").items():
        assert torch.equal(tensor, stored[name])


def test_products_lie_by_the_files_names_and_say_which_way_round(folder: Path, tmp_path: Path) -> None:
    statistics(folder, on=tmp_path / "text.txt", out=tmp_path / "stat", kind="gram", examples=4)
    stored = load_file(tmp_path / "stat" / "model.safetensors")
    opened = open_folder(folder)
    turned = {part.theirs: part.transposed for part in opened.names.parts.values()}
    assert len(stored) >= 4
    for name, product in stored.items():
        shape = opened.tensors[name].shape
        assert (product.ndim == 3) == turned[name]
        assert product.shape[-1] == (shape[0] if turned[name] else shape[1])
        torch.testing.assert_close(product.transpose(-1, -2), product)
        assert torch.linalg.eigvalsh(product.double()).min() > -1e-6


@pytest.mark.parametrize(
    ("given", "said"), [({"kind": "hessian"}, "fisher or gram"), ({"examples": 0}, "at least 1"), ({"on": "x"}, "x")]
)
def test_what_cannot_be_measured_is_named(folder: Path, tmp_path: Path, given: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        statistics(folder, **{"on": tmp_path / "text.txt", "out": tmp_path / "stat", **given})
    assert not (tmp_path / "stat").exists()
