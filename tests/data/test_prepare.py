"""Shards hold exactly the tokens of the documents, whatever the number of workers and the cuts."""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from lamoid.data import prepare as module
from lamoid.data.prepare import prepare
from lamoid.data.shards import Shards, open_shards
from lamoid.data.sources import Document, read_documents
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

TEXT = "Now is the winter of our discontent,\nMade glorious summer 中文 by this sun\n\n of York; 12 34\n"


class PlainDraft:
    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("wb")

    def write(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)


@contextlib.contextmanager
def plain_folder(target: Path, *, overwrite: bool = False) -> Iterator[PlainDraft]:
    """A stand-in for the durable folder, so that these tests need no neighbour."""
    target.mkdir(exist_ok=overwrite)
    yield PlainDraft(target)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT * 5], vocab=300)


def tokens_of(shards: Shards) -> list[int]:
    return shards.window(0, len(shards))[0].tolist()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_documents_stand_between_start_and_end(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = [Document("a", "winter sun"), Document("b", TEXT), Document("c", "x")]
    manifest = prepare(documents, tokenizer, tmp_path / "out", folder=plain_folder, shard_tokens=7)
    shards = open_shards(tmp_path / "out", hashes=True)
    each = [[0, *tokenizer.encode(d.text), 0] for d in documents]
    assert tokens_of(shards) == list(itertools.chain(*each))
    assert shards.starts.tolist() == np.cumsum([0, *map(len, each[:-1])]).tolist()
    assert (manifest.documents, manifest.tokens) == (3, len(shards))
    assert manifest.text_bytes == sum(len(d.text.encode()) for d in documents)
    assert len(manifest.shards) == -(-manifest.tokens // 7)
    assert Tokenizer.read(tmp_path / "out").fingerprint() == tokenizer.fingerprint() == manifest.tokenizer
    assert shards.manifest == manifest


def test_windows_know_their_documents(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = [Document(str(k), "sun " * k) for k in range(1, 8)]
    prepare(documents, tokenizer, tmp_path / "out", folder=plain_folder, shard_tokens=10)
    shards = open_shards(tmp_path / "out")
    lengths = [2 + len(tokenizer.encode(d.text)) for d in documents]
    expected = np.repeat(np.arange(1, 8), lengths)
    for begin in range(len(shards) - 5):
        np.testing.assert_array_equal(shards.window(begin, 5)[1], expected[begin : begin + 5])
    part = shards.part(0.5, 1)
    np.testing.assert_array_equal(part.window(0, len(part))[1], expected[len(shards) - len(part) :])
    assert tokens_of(shards.part(0, 0.5)) + tokens_of(part) == tokens_of(shards)


def test_neither_workers_nor_library_threads_change_a_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(TEXT * 3000)
    for n, data in tokenizer.files().items():
        (tmp_path / n).write_bytes(data)
    for workers in (1, 3):
        documents = read_documents([tmp_path / "in.txt"], separator="York", part=1000)
        out = tmp_path / f"out{workers}"
        prepare(documents, tokenizer, out, folder=plain_folder, workers=workers, shard_tokens=5000)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out3")
    code = (
        "import sys; from pathlib import Path; from lamoid.recipes.prepare import prepare; here = Path(sys.argv[1]); "
        "prepare([here / 'in.txt'], tokenizer=here, out=here / sys.argv[2], shard_tokens=5000)"
    )
    for name, threads in (("one", {"RAYON_NUM_THREADS": "1"}), ("off", {"TOKENIZERS_PARALLELISM": "false"})):
        run = [sys.executable, "-c", code, str(tmp_path), name]
        subprocess.run(run, check=True, env=os.environ | threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "off")


@pytest.mark.parametrize("place", ["tok_gpt2", "stories260K/hf"])
def test_parts_give_the_ids_of_the_whole(place: str, data_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.read(data_folder / place)
    source = data_folder / "tinyshakespeare/input.txt"
    text = source.read_text()[:200_000]
    (tmp_path / "in.txt").write_text(text)
    documents = read_documents([tmp_path / "in.txt"], part=3000)
    prepare(documents, tokenizer, tmp_path / "out", folder=plain_folder)
    found = tokens_of(open_shards(tmp_path / "out"))
    assert found == [tokenizer.start, *tokenizer.encode(text), tokenizer.end]


def test_a_line_without_a_space_is_cut_and_comes_back(data_folder: Path, tmp_path: Path) -> None:
    for place in ("tok_gpt2", "stories260K/hf"):
        tokenizer = Tokenizer.read(data_folder / place)
        (tmp_path / "in.txt").write_text("ab" * 9000 + " c\n\n\n  d")
        out = tmp_path / place.replace("/", "-")
        documents = read_documents([tmp_path / "in.txt"], part=1000)
        prepare(documents, tokenizer, out, folder=plain_folder)
        shards = open_shards(out)
        assert len(shards.starts) == 1
        assert tokenizer.decode(tokens_of(shards)) == "ab" * 9000 + " c\n\n\n  d"


def test_a_document_without_tokens_does_not_count(tmp_path: Path) -> None:
    bare = train_tokenizer(["ab"], kind="characters", closed=True)
    document = b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}'
    bare = Tokenizer({"tokenizer.json": document})
    documents = [Document("a", "a"), Document("b", ""), Document("c", "b"), Document("d", "")]
    assert prepare(documents, bare, tmp_path / "out", folder=plain_folder).documents == 2
    assert open_shards(tmp_path / "out").starts.tolist() == [0, 1]
    with pytest.raises(InputError, match="none with a token"):
        prepare([Document("a", "")], bare, tmp_path / "none", folder=plain_folder)


def test_text_that_looks_like_a_control_token_stays_text(data_folder: Path, tmp_path: Path) -> None:
    for place, text in (("tok_gpt2", "a<|endoftext|>b\n<|endoftext|>"), ("stories260K/hf", "<s>a</s>\n<s> </s>")):
        tokenizer = Tokenizer.read(data_folder / place)
        (tmp_path / "in.txt").write_text(text * 50)
        out = tmp_path / place.replace("/", "-")
        prepare(read_documents([tmp_path / "in.txt"], part=40), tokenizer, out, folder=plain_folder)
        found = tokens_of(open_shards(out))
        assert [k for k, i in enumerate(found) if i in tokenizer.controls] == [0, len(found) - 1]
        assert tokenizer.decode(found) == text * 50


def test_four_bytes_a_token_above_65536_tokens(tmp_path: Path) -> None:
    characters = "".join(chr(c) for c in range(0x20000, 0x20000 + 66_000))
    wide = train_tokenizer([characters], kind="characters", closed=True, vocab=70_000)
    assert prepare([Document("a", characters)], wide, tmp_path / "out", folder=plain_folder).width == 4
    assert tokens_of(open_shards(tmp_path / "out")) == [0, *range(1, 66_001), 0]


def test_an_error_in_the_text_reaches_the_caller(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = [Document("a", "fine"), Document("b", "half \ud800")]
    with pytest.raises(InputError, match="surrogate"):
        prepare(documents, tokenizer, tmp_path / "out", folder=plain_folder)
    with pytest.raises(InputError, match="must be 1 or more"):
        prepare(documents, tokenizer, tmp_path / "out2", folder=plain_folder, workers=0)


def test_progress_is_told_the_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    told: list[int] = []
    prepare(
        [Document(str(k), TEXT) for k in range(30_000)],
        tokenizer,
        tmp_path / "out",
        folder=plain_folder,
        advance=lambda n=1, **figures: told.append(n),
    )
    assert sum(told) == 30_000 * len(TEXT.encode())
    assert len(told) > 1
    assert sum(told) > module.BATCH


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """The peaks at 4 MB and at 14 MB in one line differ by less than the text does; its ids alone take 40 MB."""
    code = (
        "import sys; from pathlib import Path; from lamoid.recipes.prepare import prepare; here = Path(sys.argv[1]); "
        "prepare([here / sys.argv[2]], tokenizer=here, out=here / ('out' + sys.argv[2]), workers=1); "
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc/self/status, which tells the peak")
    for name, data in train_tokenizer([TEXT], kind="characters", closed=True).files().items():
        (tmp_path / name).write_bytes(data)
    peaks = []
    for size in (4, 14):
        (tmp_path / f"{size}.txt").write_text("winter of our discontent " * (size * 40_000))
        run = [sys.executable, "-c", code, str(tmp_path), f"{size}.txt"]
        environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
        peaks.append(int(subprocess.run(run, check=True, capture_output=True, text=True, env=environment).stdout))
    assert peaks[1] - peaks[0] < 10_000, peaks
