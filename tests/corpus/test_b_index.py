"""Area B: hostile and broken index files. Index and headers must tell the same story, inside the folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lamoid.errors import InputError
from lamoid.weights.index import INDEX
from lamoid.weights.read import open_tensors

pytestmark = pytest.mark.timeout(60)

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
TOTAL = 2 * 4 * 4


def make(folder: Path) -> dict[str, object]:
    """Writes two good shards; gives their good index."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.arange(4.0)}, folder / ONE)
    save_file({"b": torch.arange(4.0) + 4}, folder / TWO)
    return {"metadata": {"total_size": TOTAL}, "weight_map": {"a": ONE, "b": TWO}}


def write(folder: Path, index: object) -> None:
    (folder / INDEX).write_text(index if isinstance(index, str) else json.dumps(index))


def mapped(name: str) -> Callable[[Path], None]:
    """Makes a case in which the index puts tensor b into the file ``name``."""
    return lambda folder: write(folder, {**make(folder), "weight_map": {"a": ONE, "b": name}})


def changed(**fields: object) -> Callable[[Path], None]:
    return lambda folder: write(folder, make(folder) | fields)


def replaced(make_file: Callable[[Path], object]) -> Callable[[Path], None]:
    """Makes a case in which the second shard is something else."""

    def case(folder: Path) -> None:
        index = make(folder)
        (folder / TWO).unlink()
        make_file(folder / TWO)
        write(folder, index)

    return case


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside.safetensors"
    save_file({"b": torch.arange(4.0)}, outside)
    path.symlink_to(outside)


def shard_of(tensors: dict[str, torch.Tensor]) -> Callable[[Path], object]:
    return lambda path: save_file(tensors, path)


def text(folder: Path, content: str) -> None:
    make(folder)
    write(folder, content)


B = torch.arange(4.0)
PAIR = f'{{"weight_map": {{"a": "{ONE}", "a": "{ONE}", "b": "{TWO}"}}}}'
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "01-parent": (mapped("../x.safetensors"), "not the name of a file in this folder"),
    "02-absolute": (mapped("/etc/x.safetensors"), "not the name of a file in this folder"),
    "03-windows-path": (mapped("C:\\x.safetensors"), "not the name of a file in this folder"),
    "03b-subfolder": (mapped("sub/x.safetensors"), "not the name of a file in this folder"),
    "04-link-to-outside": (replaced(link_outside), "leads out of the folder"),
    "05-directory": (replaced(lambda path: path.mkdir()), "not a plain file"),
    "06-FIFO": (replaced(os.mkfifo), "not a plain file"),
    "07-dev-zero": (replaced(lambda path: path.symlink_to("/dev/zero")), "leads out of the folder"),
    "07b-link-loop": (replaced(lambda path: path.symlink_to(path)), "cannot be reached"),
    "08-missing-shard": (replaced(lambda path: None), "does not exist"),
    "09-key-in-another-shard": (changed(weight_map={"a": TWO, "b": ONE}), "it is in"),
    "10-key-in-two-shards": (replaced(shard_of({"a": B, "b": B + 1})), "both in"),
    "11-unlisted-key": (replaced(shard_of({"b": B, "c": B + 1})), "holds 'c', which is not listed"),
    "12-listed-key-absent": (changed(weight_map={"a": ONE, "b": TWO, "c": TWO}), "no such tensor"),
    "13-duplicate-keys": (lambda folder: text(folder, PAIR), "'a' stands twice"),
    "14-weight-map-list": (changed(weight_map=["a", ONE]), "weight_map"),
    "15-weight-map-null": (changed(weight_map=None), "weight_map"),
    "16-weight-map-int": (changed(weight_map=3), "weight_map"),
    "16b-weight-map-empty": (changed(weight_map={}), "weight_map"),
    "16c-shard-name-int": (changed(weight_map={"a": 1}), "weight_map"),
    "17-total-size-wrong": (changed(metadata={"total_size": TOTAL + 1}), "it says 33 bytes, the tensors have 32"),
    "18-total-size-negative": (changed(metadata={"total_size": -1}), "not a whole number"),
    "19-total-size-string": (changed(metadata={"total_size": "32"}), "not a whole number"),
    "19b-metadata-list": (changed(metadata=[]), "metadata"),
    "20-10^6-entries": (
        lambda folder: write(folder, make(folder) | {"weight_map": {f"layer.{i}.weight": ONE for i in range(10**6)}}),
        "not listed",
    ),
    "20b-10^5-shards": (
        lambda folder: write(folder, make(folder) | {"weight_map": {f"{i}": f"{i}.safetensors" for i in range(10**5)}}),
        "does not exist",
    ),
    "21-self-reference": (mapped(INDEX), "not the name of a safetensors file"),
    "22-pickled-shard": (mapped("pytorch_model.bin"), "not the name of a safetensors file"),
    "23-not-JSON": (lambda folder: text(folder, "weights"), "JSON"),
    "24-empty": (lambda folder: text(folder, ""), "JSON"),
    "25-list": (lambda folder: text(folder, "[]"), "weight_map"),
    "26-index-is-a-directory": (lambda folder: (make(folder), (folder / INDEX).mkdir()), "not a plain file"),
    "27-index-is-a-FIFO": (lambda folder: (make(folder), os.mkfifo(folder / INDEX)), "not a plain file"),
    "28-single-file-beside": (
        lambda folder: (write(folder, make(folder)), save_file({"a": B}, folder / "model.safetensors")),
        "both",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "model"
    prepare, expected = REFUSED[case]
    prepare(folder)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(InputError) as caught:
        open_tensors(folder)
    assert str(folder) in caught.value.culprit
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert sorted(path.name for path in folder.iterdir()) == before


def test_good_shards_are_read(tmp_path: Path) -> None:
    for metadata in ({"total_size": TOTAL}, {}, {"total_parameters": 8, "total_size": TOTAL}):
        write(tmp_path, make(tmp_path) | {"metadata": metadata})
        tensors = open_tensors(tmp_path)
        assert torch.cat([tensors.tensor(name) for name in ("a", "b")]).tolist() == list(range(8))


def test_blobs_of_a_cache_snapshot_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    write(snapshot, make(snapshot))
    for number, name in enumerate((ONE, TWO, INDEX)):
        blob = blobs / f"{number:064x}"
        (snapshot / name).rename(blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    assert open_tensors(snapshot).tensor("b").tolist() == [4, 5, 6, 7]
    linked = tmp_path / "linked"
    linked.symlink_to(snapshot)
    assert open_tensors(linked).tensor("a").tolist() == [0, 1, 2, 3]


def test_a_link_out_of_the_cache_is_refused(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--x" / "snapshots" / ("0" * 40)
    write(snapshot, make(snapshot))
    secret = tmp_path / "models--x" / "secret.safetensors"
    (snapshot / TWO).rename(secret)
    (snapshot / TWO).symlink_to("../../secret.safetensors")
    with pytest.raises(InputError, match="leads out of the folder"):
        open_tensors(snapshot)
