"""Tensors in memory read as those of files do."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from lamoid.weights.held import HeldTensors
from lamoid.weights.read import open_tensors


def test_held_tensors_read_as_those_of_files(tmp_path: Path) -> None:
    numbers = {"a": torch.randn(5, 7), "b": torch.arange(6).view(2, 3)}
    save_file(numbers, tmp_path / "model.safetensors")
    stored = open_tensors(tmp_path)
    held = HeldTensors(stored, numbers)
    assert list(held) == list(numbers)
    for name in stored:
        assert held[name].shape == stored[name].shape
        assert held[name].dtype == stored[name].dtype
        assert torch.equal(held.tensor(name), stored.tensor(name))
        ours, theirs = torch.empty((2, 4), dtype=stored[name].dtype)
        held.read_into(name, 2, ours)
        stored.read_into(name, 2, theirs)
        assert torch.equal(ours, theirs)


def test_what_was_cast_says_so(tmp_path: Path) -> None:
    save_file({"a": torch.randn(5, 7)}, tmp_path / "model.safetensors")
    stored = open_tensors(tmp_path)
    held = HeldTensors(stored, {"a": stored.tensor("a").bfloat16()})
    assert held["a"].dtype == torch.bfloat16
    assert held["a"].stop - held["a"].start == 70
