"""The head that an objective about rows needs, on the trunk of a model: as its family has it, or else a plain one."""

import msgspec

from lamoid.assembly.families.family import Family
from lamoid.assembly.families.task_words import PROBLEMS, label_words
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.assembly.surgery import transplant
from lamoid.assembly.task_heads import (
    ClassesSpec,
    FirstSpec,
    LabelsSpec,
    LastSpec,
    PoolSpec,
    RegressionSpec,
    SpanSpec,
    TagsSpec,
)
from lamoid.errors import InputError

RowHead = type[ClassesSpec] | type[LabelsSpec] | type[RegressionSpec] | type[TagsSpec] | type[SpanSpec]
NAMED = (ClassesSpec, LabelsSpec, TagsSpec)


def held_head(spec: ModelSpec, kind: RowHead) -> HeadSpec | None:
    """Give the model's only head if it is of that kind."""
    head = next(iter(spec.heads.values()))
    return head if len(spec.heads) == 1 and isinstance(head, kind) else None


def held_names(head: HeadSpec | None) -> tuple[str, ...]:
    """Give the names that a head has for its answers; unnamed ones are called as transformers calls them."""
    if not isinstance(head, NAMED):
        return ()
    return head.names or tuple(label_words(head.count, ())["id2label"].values())


def with_head(spec: ModelSpec, kind: RowHead, names: tuple[str, ...], family: Family | None) -> ModelSpec:
    """Give the trunk with one head of that kind, instead of those that it has.

    It is built as the class of ``family`` for such answers builds it, if the trunk is of that family.
    """
    trunk = _plain(spec, kind, names)
    written = None if family is None else family.written(spec)
    if family is None or written is None:
        return trunk
    words = label_words(len(names) or 1, names)
    problem = next((problem for problem, (_, head) in PROBLEMS.items() if head is kind), None)
    for architecture in family.architectures:
        config = {**written[1], **words, "architectures": [architecture.name]}
        if problem is not None:
            config["problem_type"] = problem
        try:
            found = family.spec(config)
        except InputError:
            continue  # a class of another trunk, such as an encoder alone
        if held_head(found, kind) is not None and msgspec.structs.replace(found, heads=trunk.heads) == trunk:
            return found
    return trunk


def put_heads(model: LanguageModel, spec: ModelSpec, *, seed: int) -> None:
    """Give a trained model the heads of ``spec``, freshly drawn; the trunk stays, bit for bit."""
    fresh = empty_model(spec)
    transplant(model, fresh, before=lambda name: None if name.startswith("heads.") else name, seed=seed)


def _plain(spec: ModelSpec, kind: RowHead, names: tuple[str, ...]) -> ModelSpec:
    pool: PoolSpec = FirstSpec() if spec.not_causal else LastSpec()
    count = len(names)
    if kind is ClassesSpec:
        heads: dict[str, HeadSpec] = {"classes": ClassesSpec(count=count, names=names, pool=pool)}
    elif kind is LabelsSpec:
        heads = {"labels": LabelsSpec(count=count, names=names, pool=pool)}
    elif kind is RegressionSpec:
        heads = {"regression": RegressionSpec(pool=pool)}
    elif kind is TagsSpec:
        heads = {"tags": TagsSpec(count=count, names=names)}
    else:
        heads = {"span": SpanSpec()}
    return msgspec.structs.replace(spec, heads=heads)
