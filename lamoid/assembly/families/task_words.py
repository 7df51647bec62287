"""Heads in Hugging Face's words: tie_word_embeddings, id2label and problem_type, shared by all families."""

from collections.abc import Callable
from typing import Any, TypeVar

from lamoid.assembly.bounds import MOST_VOCAB
from lamoid.assembly.families.family import Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.heads import NextTokenSpec, NoTransformSpec, TiedSpec, TransformSpec
from lamoid.assembly.linear import DenseSpec, LinearSpec
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.assembly.task_heads import ClassesSpec, LabelsSpec, PoolSpec, RegressionSpec, SpanSpec, TagsSpec

Heads = dict[str, HeadSpec]
Words = dict[str, Any]
Kind = TypeVar("Kind")
BIASED, BARE = DenseSpec(bias=True), DenseSpec()


def next_token(*, tied: bool) -> Callable[[Fields], Heads]:
    """Read the head over the vocabulary; ``tied`` holds where tie_word_embeddings is absent."""

    def read(fields: Fields) -> Heads:
        linear = TiedSpec() if fields.flag("tie_word_embeddings", tied) else DenseSpec()
        return {"next_token": NextTokenSpec(linear)}

    return read


def next_token_words(spec: ModelSpec) -> Words | None:
    """Write the head over the vocabulary."""
    head = sole_head(spec, NextTokenSpec)
    return None if head is None else {"tie_word_embeddings": isinstance(head.linear, TiedSpec)}


def answers(
    pool: PoolSpec, linear: LinearSpec = BIASED, transform: Callable[[Fields], TransformSpec] | None = None
) -> Callable[[Fields], Heads]:
    """Read sequence classification: one of ``classes``, any of ``labels`` or ``regression``, as problem_type says.

    Where it says nothing, one label means regression and several are classes, which is how transformers trains them.
    """

    def read(fields: Fields) -> Heads:
        count, names = read_labels(fields)
        problem = "regression" if count == 1 else "single_label_classification"
        name, kind = fields.choice("problem_type", PROBLEMS, problem)
        before = NoTransformSpec() if transform is None else transform(fields)
        return {name: kind(count=count, names=names, pool=pool, linear=linear, transform=before)}

    return read


def answer_words(spec: ModelSpec) -> Words | None:
    """Write sequence classification; a class that is the only one has no words in transformers."""
    for problem, (_, kind) in PROBLEMS.items():
        head = sole_head(spec, kind)
        if head is not None and (head.count > 1 or not isinstance(head, ClassesSpec)):
            return {**label_words(head.count, head.names), "problem_type": problem}
    return None


def answer_rows(linear: str, transform: str = "") -> tuple[Rename, ...]:
    """Name the tensors of sequence classification, whichever of its three kinds it is."""
    names = [name for name, _ in PROBLEMS.values()]
    rows = [Rename((f"heads.{name}.linear",), linear) for name in names]
    return (*rows, *(Rename((f"heads.{name}.transform.linear",), transform) for name in names if transform))


def tags(linear: LinearSpec = BIASED) -> Callable[[Fields], Heads]:
    """Read token classification."""

    def read(fields: Fields) -> Heads:
        count, names = read_labels(fields)
        return {"tags": TagsSpec(count=count, names=names, linear=linear)}

    return read


def tag_words(spec: ModelSpec) -> Words | None:
    """Write token classification."""
    head = sole_head(spec, TagsSpec)
    return None if head is None else label_words(head.count, head.names)


def span(fields: Fields) -> Heads:
    """Read question answering: a first and a last token."""
    return {"span": SpanSpec(linear=BIASED)}


def span_words(spec: ModelSpec) -> Words | None:
    """Write question answering."""
    return None if sole_head(spec, SpanSpec) is None else {}


def sole_head(spec: ModelSpec, kind: type[Kind]) -> Kind | None:
    """Give a model's only head if it is of that kind."""
    head = next(iter(spec.heads.values()))
    return head if len(spec.heads) == 1 and isinstance(head, kind) else None


def read_labels(fields: Fields) -> tuple[int, tuple[str, ...]]:
    """Give the number of labels and their names, none where they are but LABEL_0, LABEL_1 ..."""
    named = fields.take("id2label")
    if named is None:
        return fields.whole("num_labels", 2, high=MOST_VOCAB), ()
    numbers = _numbers(len(named)) if isinstance(named, dict) else []
    if not numbers or set(named) != set(numbers) or not all(isinstance(name, str) for name in named.values()):
        fields.refuse("id2label", named, 'an object that names each label: {"0": "no", "1": "yes"}')
    names = tuple(named[number] for number in numbers)
    if fields.whole("num_labels", len(names), high=MOST_VOCAB) != len(names):
        fields.refuse("num_labels", fields.take("num_labels"), f"{len(names)}, as many as id2label names")
    if len(set(names)) != len(names):
        fields.refuse("id2label", named, "another name for each label")
    return len(names), () if names == _default_names(len(names)) else names


def label_words(count: int, names: tuple[str, ...]) -> Words:
    """Write the labels both ways round."""
    names = names or _default_names(count)
    return {"id2label": dict(zip(_numbers(count), names, strict=True)), "label2id": {n: i for i, n in enumerate(names)}}


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _default_names(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{number}" for number in range(count))


PROBLEMS: dict[str, tuple[str, type[ClassesSpec] | type[LabelsSpec] | type[RegressionSpec]]] = {
    "single_label_classification": ("classes", ClassesSpec),
    "multi_label_classification": ("labels", LabelsSpec),
    "regression": ("regression", RegressionSpec),
}
