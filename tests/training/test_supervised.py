"""Objectives about rows: the losses of transformers on the same weights, and a row's loss is its own affair."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.bert import BERT
from lamoid.assembly.families.llama import LLAMA
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.task_heads import ClassesSpec, LabelsSpec, RegressionSpec, SpanSpec, TagsSpec
from lamoid.data.row_batches import RowBatch, SourceRows, TextRows, TokenRows
from lamoid.recipes.row_heads import with_head
from lamoid.training.objectives import Terms
from lamoid.training.supervised import SUPERVISED
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import save_model

KINDS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "classes": (ClassesSpec, ("a", "b", "c"), "SequenceClassification"),
    "labels": (LabelsSpec, ("a", "b", "c"), "SequenceClassification"),
    "regression": (RegressionSpec, (), "SequenceClassification"),
    "tags": (TagsSpec, ("a", "b", "c"), "TokenClassification"),
    "spans": (SpanSpec, (), "QuestionAnswering"),
}


def model_for(kind: str, family: str) -> LanguageModel:
    head, names, _ = KINDS[kind]
    spec = Shape(family=family, width=32, layers=2, heads=2, context=24).spec(64)
    model = LanguageModel(with_head(spec, head, names, {"bert": BERT, "llama": LLAMA}[family]))
    initialise(model, int(torch.randint(1 << 30, ())))
    return model.eval()


def targets_for(kind: str, rows: int, length: int) -> torch.Tensor:
    if kind == "classes":
        return torch.randint(3, (rows,))
    if kind == "labels":
        return torch.randint(2, (rows, 3)).float()
    if kind == "regression":
        return torch.randn(rows, 1)
    if kind == "spans":
        return torch.randint(length, (rows, 2))
    return torch.where(torch.rand(rows, length) < 0.3, IGNORED, torch.randint(3, (rows, length)))


def loss_of(terms: Terms) -> float:
    return sum((term.weight * term.sum / term.count).item() for term in terms.values())


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind: str, family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = model_for(kind, family)
    with durable_folder(tmp_path / "model") as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    name = f"{family.capitalize()}For{KINDS[kind][2]}"
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "model").eval()
    theirs.config.pad_token_id = 0
    ids, targets = torch.randint(1, 64, (4, 12)), targets_for(kind, 4, 12)
    terms = SUPERVISED[kind].terms(model, RowBatch(Batch(ids), targets))
    named: dict[str, Any] = {"labels": targets}
    if kind == "spans":
        named = {"start_positions": targets[:, 0], "end_positions": targets[:, 1]}
    elif kind == "regression":
        named = {"labels": targets[:, 0]}
    wanted = theirs(input_ids=ids, **named)
    assert loss_of(terms) == pytest.approx(wanted.loss.item(), rel=1e-5, abs=1e-5)
    sum(term.weight * term.sum / term.count for term in terms.values()).backward()
    wanted.loss.backward()
    ours = torch.cat([p.grad.flatten() for p in model.heads.parameters()]).square().sum()
    their_head = theirs.qa_outputs if kind == "spans" else getattr(theirs, "classifier", None) or theirs.score
    last = [p.grad.square().sum() for p in their_head.parameters()]
    pooled = [p.grad.square().sum() for n, p in theirs.named_parameters() if ".pooler." in n and p.grad is not None]
    torch.testing.assert_close(ours, sum([*last, *pooled]), rtol=1e-4, atol=1e-7)


def test_a_sequence_loss_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = LanguageModel(Shape(family="t5", width=32, layers=2, heads=2, context=24).spec(64))
    initialise(model, 1)
    with durable_folder(tmp_path / "model") as draft:
        save_model(model, draft, generation={"decoder_start_token_id": 0}, tokenizer_files={})
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    source, wanted = ([rng.integers(2, 64, rng.integers(2, 9)) for _ in range(4)] for _ in range(2))
    read = [np.concatenate([[0], row[:-1]]) for row in wanted]
    batch = SourceRows("sequence", source, read, wanted).batch(torch.arange(4))
    assert batch.batch.source is not None
    theirs.config.pad_token_id = 0
    mask = (batch.batch.source.segments != 0).long()
    loss = theirs(input_ids=batch.batch.source.ids, attention_mask=mask, labels=batch.targets).loss
    assert loss_of(SUPERVISED["sequence"].terms(model, batch)) == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rows_loss_does_not_depend_on_its_company(kind: str, family: str) -> None:
    """Rows of unequal length, batched with padding, lose what they lose alone; counts add up too."""
    model, rng = model_for(kind, family), np.random.default_rng(int(torch.randint(1 << 30, ())))
    ids = [rng.integers(1, 64, rng.integers(3, 20)) for _ in range(6)]
    if kind == "tags":
        tags = [targets_for(kind, 1, len(row))[0].numpy() for row in ids]
        for row in tags:
            row[0] = 1
        rows: TextRows | TokenRows = TokenRows(kind, ids, tags)
    else:
        rows = TextRows(kind, ids, targets_for(kind, 6, 3))
    objective = SUPERVISED[kind]
    with torch.no_grad():
        whole = objective.terms(model, rows.batch(torch.arange(6)))
        alone = [objective.terms(model, rows.batch(torch.tensor([row]))) for row in range(6)]
    for name, term in whole.items():
        assert term.count == sum(one[name].count for one in alone)
        torch.testing.assert_close(term.sum, torch.stack([one[name].sum for one in alone]).sum(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_known_beforehand(kind: str) -> None:
    example = RowBatch(Batch(torch.randint(1, 64, (4, 12))), targets_for(kind, 4, 12))
    counts = SUPERVISED[kind].counts(example)
    for name, term in SUPERVISED[kind].terms(model_for(kind, "llama"), example).items():
        assert counts[name] == term.count


def test_a_span_never_lies_in_padding() -> None:
    model = model_for("spans", "llama")
    rows = TextRows("spans", [np.arange(1, 4), np.arange(1, 20)], torch.zeros(2, 2, dtype=torch.long))
    example = rows.batch(torch.arange(2))
    before = SUPERVISED["spans"].terms(model, example)["begin"].sum
    changed = copy.copy(example.batch.ids)
    changed[0, 3:] = 7
    other = RowBatch(Batch(changed, example.batch.segments), example.targets)
    assert SUPERVISED["spans"].terms(model, other)["begin"].sum.item() == before.item()
