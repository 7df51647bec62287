"""The prefix of each document is seen from everywhere, and nothing that is seen is asked for."""

import os
import time

import numpy as np
import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import NextTokens, Windows
from lamoid.data.prefixes import PrefixView
from lamoid.recipes.pretraining_objectives import PrefixTable

CONTEXT = 20


@pytest.fixture
def windows() -> Windows:
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    draws = np.random.default_rng(seed)
    documents = np.sort(draws.integers(1, 4, (400, CONTEXT + 1)), 1)
    documents = np.cumsum(np.diff(documents, prepend=0, axis=1) != 0, 1)
    documents[:50, 15:] = 0
    tokens = draws.integers(0, 50, documents.shape)
    return Windows(tokens, documents, tuple(f"{seed}/{row}" for row in range(len(tokens))))


def test_prefixes_are_parted_evenly_and_the_rest_is_asked_for(windows: Windows) -> None:
    example, plain = PrefixView(CONTEXT)(windows), NextTokens(CONTEXT)(windows)
    assert torch.equal(example.batch.ids, plain.batch.ids)
    places = []
    for row, documents in enumerate(windows.documents):
        marks = example.batch.streams["prefix"][row].tolist()
        for number in range(1, documents.max() + 1):
            first, *rest = np.flatnonzero(documents == number).tolist()
            inside = [place for place in (first, *rest) if place < CONTEXT]
            length = sum(marks[place] for place in inside)
            assert [marks[place] for place in inside] == [1] * length + [0] * (len(inside) - length)
            assert length == 0 if not rest else 1 <= length <= len(rest)
            for place in inside:
                asked = place + 1 - first >= length and bool(rest) and place != rest[-1]
                wanted = plain.targets[row, place].item() if asked else IGNORED
                assert example.targets[row, place].item() == wanted
            if rest:
                places.append((length - 0.5) / len(rest))
    # Evenly from 1 to all but one: the mean of n uniform numbers lies within 6 / sqrt(12 n) of one half.
    assert abs(np.mean(places) - 0.5) < 6 / (12 * len(places)) ** 0.5


def test_what_is_drawn_is_the_rows_own(windows: Windows) -> None:
    view = PrefixView(CONTEXT)
    together = view(windows)
    alone = view(Windows(windows.tokens[7:8], windows.documents[7:8], windows.keys[7:8]))
    assert torch.equal(alone.targets[0], together.targets[7])
    other = view(Windows(windows.tokens, windows.documents, tuple(f"epoch/{key}" for key in windows.keys)))
    assert not torch.equal(other.targets, together.targets)


@torch.no_grad()
def test_no_answer_can_see_what_it_is_to_say(windows: Windows) -> None:
    """Each token that is asked for is changed in turn: what stands before it in its row answers the same."""
    model = LanguageModel(PrefixTable().shaped(Shape(width=32, layers=2, heads=2, context=CONTEXT).spec(50)))
    initialise(model, 0, deviation=0.3)
    example = PrefixView(CONTEXT)(Windows(windows.tokens[48:52], windows.documents[48:52], windows.keys[48:52]))
    batch = example.batch
    before = model(batch)
    sees_later = False
    for row, place in (example.targets != IGNORED).nonzero().tolist():
        if place + 1 == CONTEXT:
            continue
        ids = batch.ids.clone()
        ids[row, place + 1] = (ids[row, place + 1] + 1) % 50
        after = model(Batch(ids, batch.segments, streams=batch.streams))
        torch.testing.assert_close(after[row, : place + 1], before[row, : place + 1], rtol=1e-5, atol=1e-5)
        sees_later |= not torch.allclose(after[row, place + 1 :], before[row, place + 1 :], atol=1e-3)
    assert sees_later
    first = int((batch.streams["prefix"][0] == 1).sum())
    if first > 2:  # and a prefix does see its later tokens
        assert not torch.allclose(
            model(Batch(batch.ids[:1, :2], streams={"prefix": torch.ones(1, 2, dtype=torch.long)}))[0, 0],
            model(Batch(batch.ids[:1, :1], streams={"prefix": torch.ones(1, 1, dtype=torch.long)}))[0, 0],
            atol=1e-3,
        )
