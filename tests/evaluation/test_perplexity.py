"""Losses against a loop that scores one window at a time, against transformers, and for every batch size."""

import math
from pathlib import Path

import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.evaluation import perplexity
from lamoid.evaluation.perplexity import backward_documents, document_losses
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

WORDS = "the sly fox jumps over 7 lazy dogs; ünïcödé 漢字 too.\n"
DOCUMENTS = ["", "a", WORDS, WORDS * 40, "x" * 700, WORDS[::-1] * 9]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([WORDS * 3], vocab=290)


def make(tokenizer: Tokenizer, family: str = "llama") -> LanguageModel:
    shape = Shape(family=family, width=32, layers=2, heads=4, context=48)  # pyright: ignore[reportArgumentType]
    model = LanguageModel(shape.spec(tokenizer.vocab))
    initialise(model, 1, deviation=0.4)
    return model


@torch.no_grad()
def naive(model: LanguageModel, ids: list[int], context: int) -> float:
    total = 0.0
    for first in range(0, len(ids) - 1, context):
        window = torch.tensor([ids[first : first + context + 1]])
        logits = model(window[:, :-1]).double().log_softmax(-1)
        total -= logits.gather(2, window[:, 1:, None]).sum().item()
    return total


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("context", [None, 48, 7, 1])
def test_each_token_once_in_windows(tokenizer: Tokenizer, family: str, context: int | None) -> None:
    model = make(tokenizer, family)
    found = document_losses(model, tokenizer, DOCUMENTS, context=context)
    for text, loss in zip(DOCUMENTS, found, strict=True):
        ids = [0, *tokenizer.encode(text)]
        assert (loss.tokens, loss.bytes) == (len(ids) - 1, len(text.encode()))
        assert loss.nats == pytest.approx(naive(model, ids, context or 48), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_batch_size_changes_nothing(tokenizer: Tokenizer, family: str, batch: int) -> None:
    model = make(tokenizer, family)
    pairs = zip(
        document_losses(model, tokenizer, DOCUMENTS),
        document_losses(model, tokenizer, DOCUMENTS, batch=batch),
        strict=True,
    )
    assert all(abs(one.nats - other.nats) <= 1e-5 * max(1, one.tokens) for one, other in pairs)


def test_groups_of_documents_change_nothing(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(tokenizer)
    whole = document_losses(model, tokenizer, DOCUMENTS)
    monkeypatch.setattr(perplexity, "GROUP_CHARACTERS", 10)
    for one, other in zip(whole, document_losses(model, tokenizer, DOCUMENTS), strict=True):
        assert one.nats == pytest.approx(other.nats, rel=1e-6)


def test_blocks_share_a_document_out(tokenizer: Tokenizer) -> None:
    model = make(tokenizer)
    text = WORDS * 200
    whole, blocks = (document_losses(model, tokenizer, [text, "a"], in_blocks=chosen) for chosen in (False, True))
    assert len(blocks) == math.ceil(len(text.encode()) / 4096) + 1
    for name in ("nats", "tokens", "bytes"):
        assert math.fsum(getattr(loss, name) for loss in blocks) == pytest.approx(
            math.fsum(getattr(loss, name) for loss in whole), rel=1e-12
        )
    assert max(loss.bytes for loss in blocks) <= 4096


def test_without_a_start_token_the_first_is_not_scored() -> None:
    library = train_tokenizer([WORDS], vocab=270)
    bare = Tokenizer(library.files())
    bare.start = None
    model = make(library)
    losses = document_losses(model, bare, [WORDS, "a", ""])
    ids = bare.encode(WORDS)
    assert [loss.tokens for loss in losses] == [len(ids) - 1, len(bare.encode("a")) - 1, 0]
    assert losses[0].nats == pytest.approx(naive(model, ids, 48), rel=1e-6)


def test_progress_counts_tokens(tokenizer: Tokenizer) -> None:
    told: list[int] = []
    losses = document_losses(make(tokenizer), tokenizer, DOCUMENTS, advance=told.append)
    assert sum(told) == sum(loss.tokens for loss in losses)


def test_a_foreign_tokenizer_is_refused(tokenizer: Tokenizer) -> None:
    model = LanguageModel(Shape(width=16, layers=1, heads=2, context=16).spec(100))
    initialise(model, 0)
    with pytest.raises(InputError, match=r"tokenizer: gives the token .*, the model knows 100"):
        document_losses(model, tokenizer, [WORDS])


def test_as_transformers(data_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from lamoid.verbs.llama import load

    folder = data_folder / "stories260K" / "hf"
    text = (data_folder / "tinystories_sample" / "tinystories_sample.txt").read_text()[:1500]
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = load(folder, dtype="float32")
    ids = [1, *ours.tokenizer.encode(text)]
    assert len(ids) > 512
    total = 0.0
    for first in range(0, len(ids) - 1, 512):
        window = torch.tensor([ids[first : first + 513]])
        with torch.no_grad():
            logits = peer(window[:, :-1]).logits
        total += torch.nn.functional.cross_entropy(logits[0], window[0, 1:], reduction="sum").item()
    assert ours.loss(text).nats == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_the_gradient_is_that_of_the_loss(tokenizer: Tokenizer, batch: int | None) -> None:
    model = make(tokenizer)
    total = torch.zeros(())
    for text in DOCUMENTS:
        ids = [0, *tokenizer.encode(text)]
        for first in range(0, len(ids) - 1, 48):
            window = torch.tensor([ids[first : first + 49]])
            total = total + torch.nn.functional.cross_entropy(model(window[:, :-1])[0], window[0, 1:], reduction="sum")
    expected = torch.autograd.grad(total, list(model.parameters()))
    told: list[int] = []
    tokens = backward_documents(model, tokenizer, DOCUMENTS, batch=batch, advance=told.append)
    assert tokens == sum(told) == sum(loss.tokens for loss in document_losses(model, tokenizer, DOCUMENTS))
    for (name, parameter), gradient in zip(model.named_parameters(), expected, strict=True):
        assert parameter.grad is not None, name
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max())), name
