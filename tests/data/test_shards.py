"""Damaged shards are named, and their cure."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lamoid.data.shards import open_shards
from lamoid.errors import InputError
from lamoid.recipes.prepare import prepare
from lamoid.text.training import train_tokenizer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for name, data in train_tokenizer(["some text"], vocab=257).files().items():
        (folder / name).write_bytes(data)
    (folder / "in.jsonl").write_text('{"text": "one"}\n{"text": "another"}\n{"text": "a third text"}\n')
    prepare([str(folder / "in.jsonl")], tokenizer=folder, out=folder / "out", shard_tokens=10)
    return folder / "out"


def edit(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "corpus.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def cut(name: str, by: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-by])


def flip(name: str, at: int) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 0x01
        (folder / name).write_bytes(data)

    return change


def link(name: str, target: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to(target))


def pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: (f / "corpus.json").unlink(), "holds no prepared data"),
        (lambda f: (f / "corpus.json").write_text("{"), "corpus.json: it is not usable JSON"),
        (lambda f: (f / "corpus.json").write_text('{"format": 1, "format": 1}'), "'format' stands twice"),
        (edit(tokens="12"), "corpus.json: cannot be read"),
        (edit(surprise=1), "corpus.json: cannot be read.*surprise"),
        (edit(format=2), "format: 2 is not 1"),
        (edit(width=8), "width: 8"),
        (edit(vocab=0), "width"),
        (edit(documents=0), "no document"),
        (edit(tokens=5), "sum over the shards"),
        (edit(shards=[{"file": "../secret", "tokens": 31, "sha256": ""}]), r"shards\[0\]: '../secret'"),
        (lambda f: (f / "tokens-00001.bin").unlink(), "tokens-00001.bin: is missing"),
        (cut("tokens-00001.bin", 1), "tokens-00001.bin: has 19 bytes, not the 20"),
        (cut("tokens-00000.bin", 2), "tokens-00000.bin: has 18 bytes, not the 20"),
        (cut("documents.bin", 8), "documents.bin: has 16 bytes, not the 24"),
        (flip("documents.bin", 15), "documents.bin: does not give"),
        (flip("documents.bin", 0), "documents.bin: does not give"),
    ],
)
def test_a_damaged_folder_is_refused(change: Callable[[Path], object], match: str, good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(InputError, match=match) as caught:
        open_shards(tmp_path / "copy")
    assert "lamoid prepare" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: (f / "corpus.json").write_bytes(b" " * (10**8 + 1)), "the limit for this kind of file"),
        (link("corpus.json", "/dev/zero"), "corpus.json: the link leads out of the folder"),
        (pipe("corpus.json"), r"corpus.json: it is a pipe \(FIFO\)"),
        (link("tokens-00001.bin", "/dev/zero"), "tokens-00001.bin: the link leads out of the folder"),
        (pipe("documents.bin"), r"documents.bin: it is a pipe \(FIFO\)"),
    ],
)
def test_what_is_no_plain_file_of_the_folder_is_refused(
    change: Callable[[Path], object], match: str, good: Path, tmp_path: Path
) -> None:
    shutil.copytree(good, tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(InputError, match=match):
        open_shards(tmp_path / "copy")


def test_one_flipped_bit_is_found_by_the_hash(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    flip("tokens-00002.bin", 4)(tmp_path / "copy")
    open_shards(tmp_path / "copy")
    with pytest.raises(InputError, match=r"tokens-00002\.bin: does not have the hash"):
        open_shards(tmp_path / "copy", hashes=True)


def test_a_token_beyond_the_vocabulary_is_found_when_it_is_read(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    data = bytearray((good / "tokens-00001.bin").read_bytes())
    data[3] = 0x7F
    (tmp_path / "copy/tokens-00001.bin").write_bytes(data)
    shards = open_shards(tmp_path / "copy")
    with pytest.raises(InputError, match=r"tokens-00001.bin: token 32\d+ is not below 257"):
        shards.window(5, 10)


def test_another_tokenizer_is_refused(good: Path) -> None:
    shards = open_shards(good, hashes=True)
    shards.check_tokenizer(shards.manifest.tokenizer)
    with pytest.raises(InputError, match="another tokenizer"):
        shards.check_tokenizer("0" * 64)


def test_a_part_outside_is_refused(good: Path) -> None:
    shards = open_shards(good)
    for begin, end in ((0.5, 0.5), (-0.1, 1), (0, 1.1), (float("nan"), 1)):
        with pytest.raises(InputError, match="no stretch"):
            shards.part(begin, end)
    with pytest.raises(IndexError):
        shards.window(len(shards), 1)
