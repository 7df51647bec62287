"""Pairs: half of them follow, half of them not, and what stands in them stands in the texts."""

import json
import os
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.loader import Loader, Windows, sequential
from lamoid.data.masking import Masking
from lamoid.data.sentence_pairs import MaskedPairs, PairView, Question
from lamoid.data.shards import Shards, open_shards
from lamoid.errors import InputError
from lamoid.recipes.prepare import prepare
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

CONTEXT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of which no two have a character in common, a full stop behind every seventh or so."""
    folder = tmp_path_factory.mktemp("pairs")
    characters, texts = iter(range(0x4E00, 0x9000)), []
    draws = np.random.default_rng(3)
    for _ in range(40):
        length = int(draws.integers(30, 160))
        text = "".join(chr(c) for c in islice(characters, length))
        texts.append("".join(c + "。" * bool(draws.random() < 0.15) for c in text))
    for name, data in (
        train_tokenizer([*texts, "a"], kind="characters", closed=True, vocab=20000, mask=True).files().items()
    ):
        (folder / name).write_bytes(data)
    (folder / "in.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    prepare([str(folder / "in.jsonl")], tokenizer=folder, out=folder / "out", shard_tokens=500)
    return folder


@pytest.fixture(scope="module")
def shards(folder: Path) -> Shards:
    return open_shards(folder / "out")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.read(folder)


def the_seed() -> int:
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    return seed


def view_of(tokenizer: Tokenizer, question: Question) -> PairView:
    return PairView.of(tokenizer, CONTEXT, question, Masking.of(tokenizer))


def read_pair(example: MaskedPairs, row: int, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Take the masks off, and the pair apart at its control tokens."""
    targets = example.targets[row]
    ids = torch.where(targets == IGNORED, example.batch.ids[row], targets)
    segments, types = example.batch.segments, example.batch.types
    assert segments is not None or bool((ids != tokenizer.pad).all())
    assert types is not None
    length = CONTEXT if segments is None else int(segments[row].sum())
    assert segments is None or segments[row].tolist() == [1] * length + [0] * (CONTEXT - length)
    found, kinds = ids.tolist()[:length], types[row].tolist()[:length]
    first, middle, last = (place for place, token in enumerate(found) if token in tokenizer.controls)
    assert [found[first], found[middle], found[last]] == [tokenizer.start, tokenizer.separator, tokenizer.end]
    assert (first, last) == (0, length - 1)
    assert kinds == [0] * (middle + 1) + [1] * (length - middle - 1), "as BERT numbers them"
    return found[1:middle], found[middle + 1 : -1]


def document_of(shards: Shards) -> dict[int, int]:
    ids, documents = shards.window(0, len(shards))
    return dict(zip(ids.tolist(), documents.tolist(), strict=True))


def test_half_follow_and_half_are_of_another_document(shards: Shards, tokenizer: Tokenizer) -> None:
    whole = shards.window(0, len(shards))[0].tolist()
    place = {token: number for number, token in enumerate(whole)}
    document, stop = document_of(shards), tokenizer.encode("。")[0]
    follows, cuts, others = [], [], set()
    for example in islice(Loader(shards, view_of(tokenizer, "next"), batch=20, seed=the_seed()), 150):
        assert isinstance(example, MaskedPairs)
        for row in range(20):
            first, second = read_pair(example, row, tokenizer)
            if set(first) == {stop}:  # its place is not known
                continue
            start = next(place[token] - offset for offset, token in enumerate(first) if token != stop)
            assert whole[start : start + len(first)] == first
            if example.labels[row] == 0:
                assert whole[start : start + len(first) + len(second)] == first + second
                cuts.append(first[-1] == stop or stop not in (first + second)[:-1])
            else:
                known = {document[token] for token in second if token != stop}
                assert len(known) <= 1
                assert document[next(token for token in first if token != stop)] not in known
                begin = next((place[token] - offset for offset, token in enumerate(second) if token != stop), None)
                assert begin is None or whole[begin : begin + len(second)] == second
                others |= known
            follows.append(int(example.labels[row] == 0))
    assert all(cuts), "parted behind a sentence where there is one"
    assert abs(np.mean(follows) - 0.5) < 5.5 * 0.5 / len(follows) ** 0.5
    assert others == set(range(1, 41)), "every document comes second"


def test_half_are_in_order_and_half_swapped(shards: Shards, tokenizer: Tokenizer) -> None:
    whole = "".join(map(chr, shards.window(0, len(shards))[0]))
    swapped = []
    for example in islice(Loader(shards, view_of(tokenizer, "order"), batch=20, seed=the_seed()), 150):
        assert isinstance(example, MaskedPairs)
        for row in range(20):
            pair = read_pair(example, row, tokenizer)
            label = example.labels[row].item()
            if label == IGNORED:
                assert len(pair[0]) < 2
                continue
            text = [*pair[1], *pair[0]] if label else [*pair[0], *pair[1]]
            assert "".join(map(chr, text)) in whole
            swapped.append(label)
    assert len(swapped) > 2500
    assert abs(np.mean(swapped) - 0.5) < 5.5 * 0.5 / len(swapped) ** 0.5


@pytest.mark.parametrize("question", ["next", "order"])
def test_a_pair_is_its_rows_own_and_goes_on_where_it_was(
    question: Question, shards: Shards, tokenizer: Tokenizer
) -> None:
    view = view_of(tokenizer, question)
    loader = Loader(shards, view, batch=6, seed=1)
    for _ in range(3):
        next(loader)
    again = Loader(shards, view, batch=6, seed=1, position=loader.position)
    one_by_one = Loader(shards, view, batch=1, seed=1, position=loader.position)
    for _ in range(20):
        ours, theirs = next(loader), next(again)
        rows = [next(one_by_one) for _ in range(6)]
        for name in ("targets", "labels", "draws"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
            assert torch.equal(getattr(ours, name), torch.cat([getattr(row, name) for row in rows]))
        assert torch.equal(ours.batch.ids, theirs.batch.ids)
        assert torch.equal(ours.batch.ids, torch.cat([row.batch.ids for row in rows]))
    first, second = ([e.batch.ids for e in sequential(shards, view, batch=8)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_one_document_has_nothing_else(shards: Shards, tokenizer: Tokenizer) -> None:
    single = shards.part(0, 1.0 * int(shards.starts[1]) / len(shards))
    with pytest.raises(InputError, match=r"has one document only.*data\.separator"):
        list(islice(Loader(single, view_of(tokenizer, "next"), batch=4, seed=0), 30))


def test_a_tokenizer_that_puts_nothing_between_is_refused(tokenizer: Tokenizer) -> None:
    files = tokenizer.files()
    tree = json.loads(files["tokenizer.json"])
    tree["post_processor"] = None
    bare = Tokenizer({**files, "tokenizer.json": json.dumps(tree).encode()})
    with pytest.raises(InputError, match="no template that parts two texts"):
        view_of(bare, "next")
    with pytest.raises(InputError, match="too short for a pair"):
        PairView.of(tokenizer, 4, "next", Masking.of(tokenizer))
    view = view_of(tokenizer, "next")
    tokens = np.full((1, view.length), 9)
    many = np.repeat(tokens, 40, 0)
    with pytest.raises(InputError, match="do not say where they lie"):
        view(Windows(many, np.ones_like(many), tuple(map(str, range(40)))))
