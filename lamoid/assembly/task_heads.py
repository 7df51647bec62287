"""Heads that answer about a whole text or about each of its tokens."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.bounds import MOST_VOCAB, whole
from lamoid.assembly.heads import NoTransformSpec, TransformSpec, build_transform
from lamoid.assembly.linear import DenseSpec, LinearSpec
from lamoid.assembly.scope import Scope
from lamoid.errors import InputError


class FirstSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="first"):
    """The vector of the first token stands for the text, as BERT's [CLS]."""


class LastSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="last"):
    """The vector of the last real token stands for the text: all that a causal trunk has seen."""


class AverageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="average"):
    """The average over the real tokens stands for the text."""


PoolSpec = FirstSpec | LastSpec | AverageSpec
_LINEAR = DenseSpec(bias=True)


class AnswerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all these heads have: linear(transform(x)), x being a token's vector or that which stands for the text."""

    linear: LinearSpec = _LINEAR
    transform: NoTransformSpec | TransformSpec = NoTransformSpec()

    @property
    def outputs(self) -> int:
        """How many numbers an answer has."""
        raise NotImplementedError

    @property
    def pooling(self) -> PoolSpec | None:
        """What stands for the text; ``None`` if every token is answered."""
        return None

    def build(self, scope: Scope) -> "Answer":
        return Answer(self, scope)

    def parameters(self, scope: Scope) -> int:
        last = self.linear.parameters(self.transform.width_out(scope.width), self.outputs)
        return last + self.transform.parameters(scope.width)

    def flops(self, scope: Scope) -> int:
        """Count the operations of one answer."""
        last = self.linear.flops(self.transform.width_out(scope.width), self.outputs)
        return last + self.transform.flops(scope.width)


class TextAnswerSpec(AnswerSpec, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An answer for each text."""

    pool: PoolSpec = FirstSpec()

    @property
    def pooling(self) -> PoolSpec | None:
        return self.pool


class NextSentenceSpec(
    TextAnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="next_sentence", kw_only=True
):
    """Two logits (B, 2): the second sentence follows the first, or not."""

    transform: NoTransformSpec | TransformSpec = TransformSpec(activation="tanh")

    @property
    def outputs(self) -> int:
        return 2


class ClassesSpec(
    TextAnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="classes", kw_only=True
):
    """Logits (B, count) of classes of which one holds: read through a softmax."""

    count: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole("classes.count", self.count, 1, MOST_VOCAB)
        _check_names("classes.names", self.names, self.count)

    @property
    def outputs(self) -> int:
        return self.count


class LabelsSpec(TextAnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="labels", kw_only=True):
    """Logits (B, count) of labels of which any may hold: read through sigmoids."""

    count: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole("labels.count", self.count, 1, MOST_VOCAB)
        _check_names("labels.names", self.names, self.count)

    @property
    def outputs(self) -> int:
        return self.count


class RegressionSpec(
    TextAnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="regression", kw_only=True
):
    """Numbers (B, count)."""

    count: int = 1
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole("regression.count", self.count, 1, MOST_VOCAB)
        _check_names("regression.names", self.names, self.count)

    @property
    def outputs(self) -> int:
        return self.count


class TagsSpec(AnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tags", kw_only=True):
    """Logits (B, T, count): one tag for each token."""

    count: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole("tags.count", self.count, 1, MOST_VOCAB)
        _check_names("tags.names", self.names, self.count)

    @property
    def outputs(self) -> int:
        return self.count


class SpanSpec(AnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="span", kw_only=True):
    """Logits (B, T, 2): an answer begins here, an answer ends here."""

    @property
    def outputs(self) -> int:
        return 2


class ItemSpec(AnswerSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="item", kw_only=True):
    """Logits (B, T, count): which of ``count`` items comes after each token."""

    count: int
    linear: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("item.count", self.count, 1, MOST_VOCAB)

    @property
    def outputs(self) -> int:
        return self.count


def _check_names(field: str, names: tuple[str, ...], count: int) -> None:
    """Names may be left out, but not some of them, and none may stand for two."""
    if names and len(names) != count:
        raise InputError(field, f"are {len(names)}, count is {count}", "name each, or leave names out")
    if len(set(names)) != len(names):
        raise InputError(field, "hold a name twice", "give each a name of its own")


TaskHeadSpec = NextSentenceSpec | ClassesSpec | LabelsSpec | RegressionSpec | TagsSpec | SpanSpec | ItemSpec


class Answer(nn.Module):
    """(B, T, C) to (B, outputs), or (B, T, outputs) where every token is answered."""

    def __init__(self, spec: AnswerSpec, scope: Scope) -> None:
        super().__init__()
        self.pooling = spec.pooling
        self.transform = build_transform(spec.transform, scope.width)
        self.linear = spec.linear.build(spec.transform.width_out(scope.width), spec.outputs)

    def forward(self, hidden: Tensor, table: Tensor, batch: Batch | None = None) -> Tensor:
        if self.pooling is not None:
            hidden = pool(hidden, None if batch is None else batch.segments, self.pooling)
        return self.linear(self.transform(hidden))


def pool(hidden: Tensor, segments: Tensor | None, spec: PoolSpec) -> Tensor:
    """Give the vector (B, C) that stands for each row's text; (B, T) ``segments`` mark padding with 0.

    Raise ``InputError`` if a row holds several documents: there would be one answer for all of them.
    """
    if segments is not None and not torch.compiler.is_compiling() and int(segments.max()) > 1:
        raise InputError("batch.segments", "hold several documents a row", "give each text a row of its own")
    if isinstance(spec, FirstSpec):
        return hidden[:, 0]
    if segments is None:
        return hidden[:, -1] if isinstance(spec, LastSpec) else hidden.mean(1)
    real = segments != 0
    if isinstance(spec, LastSpec):
        places = torch.arange(hidden.shape[1], device=hidden.device)
        last = torch.where(real, places, -1).max(1).values
        return hidden[torch.arange(len(last), device=hidden.device), last]
    total = (hidden * real[..., None]).sum(1, dtype=torch.promote_types(hidden.dtype, torch.float32))
    return (total / real.sum(1, keepdim=True).clamp(min=1)).to(hidden.dtype)
