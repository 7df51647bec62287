"""Tensors cut among several files come together again bit for bit; an index that lies is refused by name."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lamoid.errors import InputError
from lamoid.weights.durable import durable_folder
from lamoid.weights.slices import SLICES, read_sliced, write_sliced


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "wide": torch.randn(12, 7),
        "half": torch.randn(5, 3, 4).bfloat16(),
        "number": torch.tensor(3, dtype=torch.int64),
        "none": torch.zeros(0, 4),
        "bytes": torch.arange(40, dtype=torch.uint8),
    }


def are_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    same = [found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in wanted.items()]
    return found.keys() == wanted.keys() and all(same)


def test_what_one_process_wrote_comes_back(tmp_path: Path) -> None:
    with durable_folder(tmp_path / "out") as draft:
        write_sliced(draft, tensors())
    assert are_equal(read_sliced(tmp_path / "out"), tensors())


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_what_several_ranks_cut_among_them_comes_together(ranks: int, tmp_path: Path) -> None:
    """Along an axis drawn for each tensor, in pieces of any size, as data- and tensor-parallel ranks do."""
    chance = random.Random(ranks)
    files: list[dict[str, Tensor]] = [{} for _ in range(ranks)]
    index: dict[str, Any] = {}
    for name, value in tensors().items():
        names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64", torch.uint8: "U8"}
        slices = []
        if value.ndim == 0 or not value.numel():
            rank = chance.randrange(ranks)
            files[rank][name] = value
            slices.append({"file": f"rank-{rank}.safetensors", "begin": [0] * value.ndim})
        else:
            axis = chance.randrange(value.ndim)
            inner = sorted(chance.sample(range(1, value.shape[axis]), min(ranks, value.shape[axis]) - 1))
            for rank, (begin, end) in enumerate(zip([0, *inner], [*inner, value.shape[axis]], strict=True)):
                files[rank][name] = value.narrow(axis, begin, end - begin).contiguous()
                place = [begin if each == axis else 0 for each in range(value.ndim)]
                slices.append({"file": f"rank-{rank}.safetensors", "begin": place})
        chance.shuffle(slices)
        index[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "slices": slices}
    for rank, held in enumerate(files):
        save_file(held, tmp_path / f"rank-{rank}.safetensors")
    (tmp_path / SLICES).write_text(json.dumps(index))
    assert are_equal(read_sliced(tmp_path), tensors())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry["slices"].append(entry["slices"][0]), "overlap"),
        (lambda entry: entry["slices"].clear(), "has 0 slices"),
        (lambda entry: entry["slices"][0].update(begin=[1, 0]), "the whole is"),
        (lambda entry: entry["slices"][0].update(begin=[-1, 0]), "the whole is"),
        (lambda entry: entry["slices"][0].update(begin=[0]), "the whole is"),
        (lambda entry: entry["slices"][0].update(file="../x.safetensors"), r"\.\."),
        (lambda entry: entry["slices"][0].update(file="gone.safetensors"), "gone"),
        (lambda entry: entry.update(shape=[24, 7]), "has 84 numbers in its slices, the whole has 168"),
        (lambda entry: entry.update(dtype="F16"), "is F32 in model.safetensors, F16 in the index"),
        (lambda entry: entry.update(more=1), "unknown field"),
        (lambda entry: entry["slices"][0].update(begin=[0.5, 0]), "int"),
    ],
)
def test_an_index_that_lies_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    with durable_folder(tmp_path / "out") as draft:
        write_sliced(draft, tensors())
    index = json.loads((tmp_path / "out" / SLICES).read_bytes())
    change(index["wide"])
    (tmp_path / "out" / SLICES).write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        read_sliced(tmp_path / "out")


def test_a_tensor_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    with durable_folder(tmp_path / "out") as draft:
        write_sliced(draft, tensors())
    index = json.loads((tmp_path / "out" / SLICES).read_bytes())
    index["other"] = index["wide"]
    (tmp_path / "out" / SLICES).write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"'other'.*is not in model.safetensors"):
        read_sliced(tmp_path / "out")
