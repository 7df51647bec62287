"""Verified fusions: a member that is not what its manifest says, an output that does not read back."""

from pathlib import Path

import pytest
import torch

from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion
from lamoid.weights import placed
from lamoid.weights.durable import NotCommitted, durable_folder, verify
from lamoid.weights.read import open_tensors
from lamoid.weights.write import write_tensors


def fuse(folder: Path, out: str) -> None:
    parts = [Source(name, open_tensors(folder / name)) for name in ("a", "b")]
    options = RULES["linear"].options()
    with durable_folder(folder / out) as draft:
        stream_fusion(parts, None, RULES["linear"], lambda name: ([0.5, 0.5], options), draft, verify=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        generator = torch.Generator().manual_seed(seed)
        with durable_folder(tmp_path / name) as draft:
            write_tensors(draft, {"w": torch.randn(400, 5000, generator=generator)})
    return tmp_path


def test_what_is_as_its_manifest_says_is_fused(place: Path) -> None:
    fuse(place, "out")
    verify(place / "out", hashes=True)
    (place / "b" / "manifest.json").unlink()
    fuse(place, "again")


def test_a_changed_member_is_named_and_nothing_is_left(place: Path) -> None:
    with (place / "b" / "model.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"\x01")
    with pytest.raises(InputError, match=r"b/model\.safetensors: its sha256 is not the one in the manifest"):
        fuse(place, "out")
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]


def test_an_output_that_reads_back_otherwise_is_not_committed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "hash_from_disk", lambda path: "0" * 64)
    with pytest.raises(NotCommitted, match="reads back other than it was written"):
        fuse(place, "out")
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]
