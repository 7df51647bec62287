"""Masked tokens, pairs and replaced tokens: the sums are those worked out by hand, a row's are its own."""

import numpy as np
import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.group import ModelGroup, initialise_group
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import Windows
from lamoid.data.masking import MaskedTokens, MaskedView, Masking
from lamoid.data.sentence_pairs import MaskedPairs
from lamoid.errors import InputError
from lamoid.recipes.pretraining_objectives import NextSentenceTable
from lamoid.recipes.replaced_objective import ReplacedTable
from lamoid.training.masked import MASKED, NEXT_SENTENCE
from lamoid.training.replaced import DISCRIMINATOR, GENERATOR, inverse, put_in, replaced, sample

VOCAB, CONTEXT, MASK = 60, 24, 3
SHAPE = Shape(family="bert", width=32, layers=2, heads=2, context=CONTEXT)
MASKING = Masking(MASK, np.arange(4), np.arange(4, VOCAB))


def examples(rows: int, seed: int, *, is_short: bool = True) -> MaskedTokens:
    draws = np.random.default_rng(seed)
    documents = np.ones((rows, CONTEXT), np.int64)
    if is_short:
        documents[::2, 17:] = 0
        documents[1::2, 9:] = 2
    tokens = draws.integers(4, VOCAB, documents.shape) * (documents != 0)
    return MaskedView(CONTEXT, MASKING)(Windows(tokens, documents, tuple(f"{seed}/{row}" for row in range(rows))))


def one(example: MaskedTokens, row: int) -> MaskedTokens:
    batch, segments = example.batch, example.batch.segments
    part = slice(row, row + 1)
    kept = None if segments is None else segments[part]
    return MaskedTokens(type(batch)(batch.ids[part], kept), example.targets[part], draws=example.draws[part])


@pytest.fixture
def bert() -> LanguageModel:
    model = LanguageModel(NextSentenceTable().shaped(SHAPE.spec(VOCAB)))
    initialise(model, 1, deviation=0.2)
    return model


@pytest.fixture
def group() -> ModelGroup:
    table = ReplacedTable(generator=0.5)
    found = ModelGroup(table.group(table.shaped(SHAPE.spec(VOCAB))))
    initialise_group(found, 1)
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    return found


def test_masked_is_the_cross_entropy_of_the_masked(bert: LanguageModel) -> None:
    example = examples(6, 0)
    term = MASKED.terms(bert, example)["masked"]
    logits = bert(example.batch)
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), example.targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    torch.testing.assert_close(term.sum, wanted)
    assert term.count == int((example.targets != IGNORED).sum()) == MASKED.counts(example)["masked"]
    assert MASKED.counts(example)["balance"] == int((example.batch.segments != 0).sum())


def test_a_rows_nats_do_not_depend_on_its_company(bert: LanguageModel) -> None:
    example = examples(6, 1)
    together = MASKED.terms(bert, example)["masked"].sum
    alone = torch.stack([MASKED.terms(bert, one(example, row))["masked"].sum for row in range(6)])
    torch.testing.assert_close(alone.sum(), together)


def test_next_sentence_is_the_cross_entropy_of_the_labels(bert: LanguageModel) -> None:
    plain = examples(5, 2, is_short=False)
    labels = torch.tensor([0, 1, IGNORED, 1, 0])
    example = MaskedPairs(plain.batch, plain.targets, draws=plain.draws, labels=labels)
    found = NEXT_SENTENCE.terms(bert, example)
    logits = bert(plain.batch, head="next_sentence")
    torch.testing.assert_close(
        found["next_sentence"].sum, torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    )
    assert found["next_sentence"].count == NEXT_SENTENCE.counts(example)["next_sentence"] == 4
    torch.testing.assert_close(found["masked"].sum, MASKED.terms(bert, plain)["masked"].sum)
    without = LanguageModel(SHAPE.spec(VOCAB))
    initialise(without, 0)
    with pytest.raises(InputError, match="have none that tells of a pair"):
        NEXT_SENTENCE.terms(without, example)


def test_the_generator_samples_from_its_softmax() -> None:
    shares = torch.tensor([0.5, 0.0, 0.125, 0.375, 0.0])
    numbers = (torch.arange(8000, dtype=torch.float64) + 0.5) / 8000
    found = inverse(shares.expand(8000, 5), numbers)
    assert found.bincount(minlength=5).tolist() == [4000, 0, 1000, 3000, 0]
    ends = inverse(shares.expand(3, 5), torch.tensor([0.0, 1.0 - 2**-53, 1.0], dtype=torch.float64))
    assert ends.tolist() == [0, 3, 3], "nothing without a share is drawn, whatever the rounding"


def test_replaced_tokens_are_told_by_hand(group: ModelGroup) -> None:
    example = examples(6, 3)
    found = replaced(50.0).terms(group, example)
    generator, discriminator = group.member(GENERATOR), group.member(DISCRIMINATOR)
    chosen = example.targets != IGNORED
    logits = generator(example.batch)[chosen]
    drawn = inverse(logits.softmax(-1), example.draws[chosen])
    original = torch.where(chosen, example.targets, example.batch.ids)
    ids = original.clone()
    ids[chosen] = drawn
    told = discriminator(type(example.batch)(ids, example.batch.segments))[..., 0]
    real = example.batch.segments != 0
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        told[real], (ids != original)[real].float(), reduction="sum"
    )
    torch.testing.assert_close(found["replaced"].sum, wanted)
    assert (found["replaced"].count, found["replaced"].weight) == (int(real.sum()), 50.0)
    nats = torch.nn.functional.cross_entropy(logits, example.targets[chosen], reduction="sum")
    torch.testing.assert_close(found["masked"].sum, nats)
    assert found["masked"].weight == 1.0
    assert bool((ids != original).any())


def test_a_sample_is_its_rows_own(group: ModelGroup) -> None:
    example = examples(6, 4)
    objective = replaced(50.0)
    together = objective.terms(group, example)["replaced"].sum
    alone = [objective.terms(group, one(example, row))["replaced"].sum for row in range(6)]
    torch.testing.assert_close(torch.stack(alone).sum(), together)


def test_no_gradient_flows_through_the_sampling(group: ModelGroup) -> None:
    """What is the generator's alone learns from its own term; the shared rows learn from both."""
    example = examples(4, 5)
    replaced(50.0).terms(group, example)["replaced"].sum.backward()
    shared = {id(parameter) for parameter in group.member(DISCRIMINATOR).parameters()}
    alone = [p for p in group.member(GENERATOR).parameters() if id(p) not in shared]
    assert alone
    assert all(parameter.grad is None for parameter in alone)
    tables = group.member(GENERATOR).embedding
    assert tables.tokens.weight is group.member(DISCRIMINATOR).embedding.tokens.weight
    assert tables.positions.weight is group.member(DISCRIMINATOR).embedding.positions.weight
    assert float(tables.tokens.weight.grad.abs().sum()) > 0


def test_a_sample_that_hits_what_was_there_is_no_replacement() -> None:
    example = examples(2, 6)
    places = (example.targets.flatten() != IGNORED).nonzero()[:, 0]
    targets = example.targets.flatten()[places]
    batch, is_other = put_in(example.batch, places, targets, targets)
    assert not is_other.any()
    assert torch.equal(batch.ids.flatten()[places], targets)


def test_the_generator_is_a_share_of_the_model() -> None:
    table = ReplacedTable(generator=0.25)
    spec = Shape(family="electra", width=64, layers=3, heads=4, context=16).spec(100)
    small = table.beside(spec)[GENERATOR]
    assert (small.width, len(small.blocks), small.embedding.row_width(small.width)) == (16, 3, 64)
    assert (small.blocks[0].mixer.heads, small.blocks[0].feedforward.hidden) == (1, 64)
    both = ModelGroup(table.group(spec))
    apart = spec.parameters() + small.parameters()
    assert sum(p.numel() for p in both.parameters()) == apart - 64 * (100 + 16 + 2)
    with pytest.raises(InputError, match="not made of blocks with attention"):
        table.beside(Shape(family="t5", width=64, layers=2, heads=4, context=16).spec(100))


@torch.no_grad()
def test_samples_in_pieces_are_the_same(group: ModelGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, hidden, draws = group.member(GENERATOR), torch.randn(50, 16), torch.rand(50, dtype=torch.float64)
    whole = sample(hidden, generator, draws)
    monkeypatch.setattr("lamoid.training.replaced._NUMBERS_AT_ONCE", 3 * VOCAB)
    assert torch.equal(sample(hidden, generator, draws), whole)
