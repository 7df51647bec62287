"""What ``[objective]`` may say to learn from plain text beside the next token: prefixes, masks, pairs, spans."""

from abc import abstractmethod

import msgspec

from lamoid.assembly.bounds import positive
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.model import check_writes
from lamoid.assembly.paths import walk, with_part
from lamoid.assembly.sight import CausalSpec, PrefixSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import NextSentenceSpec
from lamoid.assembly.wiring import SOURCE
from lamoid.data.loader import View
from lamoid.data.masking import MaskedView, Masking
from lamoid.data.prefixes import PrefixView
from lamoid.data.sentence_pairs import PairView, Question
from lamoid.data.span_corruption import SpanView
from lamoid.errors import InputError
from lamoid.recipes.feed import Feed, Text
from lamoid.recipes.text_objective import TextObjective, check_reads_text
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.masked import MASKED, NEXT_SENTENCE, SENTENCE_ORDER
from lamoid.training.objectives import OBJECTIVES, Objective


class PrefixTable(TextObjective, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="prefix"):
    """Say which token comes next in the second part of a text, of which the first part is seen from everywhere."""

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that sees later tokens than the prefix's, or none of the prefix."""
        check_writes(spec)
        check_reads_text(spec, ("prefix",))
        if not any(isinstance(part, PrefixSpec) for _, part in walk(spec.blocks)):
            cure = 'write sees = "prefix" in an attention, or describe the model in a few numbers'
            raise InputError("model", "has no mixer that sees a prefix from everywhere", cure)

    def view(self, tokenizer: Tokenizer, context: int) -> View:
        return PrefixView(context)

    def objective(self) -> Objective:
        return OBJECTIVES["causal"]

    def shaped(self, spec: ModelSpec) -> ModelSpec:
        """Let all that is causal see the prefix."""
        for path in [path for path, part in walk(spec.blocks, "blocks") if isinstance(part, CausalSpec)]:
            spec = with_part(spec, path, PrefixSpec())
        return spec


class MaskingTable(TextObjective, frozen=True, forbid_unknown_fields=True):
    """What all masked objectives say: the ``share`` of tokens asked for, ``whole_word`` for words as a whole.

    Of those, the shares ``mask`` and ``random`` are read as the mask token and as any token, the rest as they are.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    whole_word: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise InputError("share", f"is {self.share}, must be above 0 and below 1", "0.15 asks for a seventh")
        if not (0.0 <= self.mask <= 1.0 and 0.0 <= self.random <= 1.0 and self.mask + self.random <= 1.0 + 1e-9):
            problem = f"are {self.mask} and {self.random}, must be shares of one whole"
            raise InputError("mask, random", problem, "such as 0.8 and 0.1")

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that does not see both sides, or that has no output over the vocabulary."""
        check_reads_text(spec)
        check_sees_both_sides(spec)
        name, head = next(iter(spec.heads.items()))
        if not isinstance(head, NextTokenSpec):
            problem = "is the default head and does not say which token was masked"
            raise InputError(f"model.heads.{name}", problem, 'put one of kind "next_token" first')

    def masking(self, tokenizer: Tokenizer) -> Masking:
        """Give the masking of a tokenizer."""
        shares = {"share": self.share, "hidden": self.mask, "random": self.random}
        return Masking.of(tokenizer, **shares, words=self.whole_word)


class MaskedTable(MaskingTable, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="masked"):
    """Say what the masked tokens were (BERT)."""

    def view(self, tokenizer: Tokenizer, context: int) -> View:
        return MaskedView(context, self.masking(tokenizer))

    def objective(self) -> Objective:
        return MASKED


class PairTable(MaskingTable, frozen=True, forbid_unknown_fields=True):
    """Say what the masked tokens were, and answer a question about each pair of texts."""

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model without a head that tells of a pair."""
        super().check(spec)
        if not any(isinstance(head, NextSentenceSpec) for head in spec.heads.values()):
            cure = 'add one of kind "next_sentence", or describe the model in a few numbers'
            raise InputError("model.heads", "have none that tells of a pair of texts", cure)

    def shaped(self, spec: ModelSpec) -> ModelSpec:
        """Add the head that tells of a pair."""
        if any(isinstance(head, NextSentenceSpec) for head in spec.heads.values()):
            return spec
        return msgspec.structs.replace(spec, heads={**spec.heads, "next_sentence": NextSentenceSpec()})

    def feed(self, data: Text, context: int, *, batch: int, measured: int, seed: int) -> Feed:
        """Cut the data into windows; ``InputError`` now rather than later where there is nothing to pair with."""
        view = self.view(data.tokenizer, context)
        for part in data.parts():
            view.check(part)
        return data.feed(view, batch=batch, measured=measured, seed=seed)

    @abstractmethod
    def view(self, tokenizer: Tokenizer, context: int) -> PairView: ...

    def pairs(self, tokenizer: Tokenizer, context: int, question: Question) -> PairView:
        """Give the view of a question."""
        return PairView.of(tokenizer, context, question, self.masking(tokenizer))


class NextSentenceTable(PairTable, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="next_sentence"):
    """Masked tokens, and whether the second text follows the first (BERT)."""

    def view(self, tokenizer: Tokenizer, context: int) -> PairView:
        return self.pairs(tokenizer, context, "next")

    def objective(self) -> Objective:
        return NEXT_SENTENCE


class SentenceOrderTable(PairTable, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sentence_order"):
    """Masked tokens, and whether both texts were swapped (ALBERT)."""

    def view(self, tokenizer: Tokenizer, context: int) -> PairView:
        return self.pairs(tokenizer, context, "order")

    def objective(self) -> Objective:
        return SENTENCE_ORDER


class SpanTable(TextObjective, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="span"):
    """Say what spans of ``mean`` tokens, a share of ``density`` in all, were cut out of a text (T5)."""

    density: float = 0.15
    mean: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.density < 1.0:
            raise InputError("density", f"is {self.density}, must be above 0 and below 1", "0.15 is T5's")
        positive("mean", self.mean)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model without a source to read the rest of the text from."""
        check_writes(spec)
        check_reads_text(spec, (SOURCE,))
        if not spec.reads_source:
            raise InputError("model", "reads no source", 'choose an encoder-decoder, such as family = "t5"')

    def view(self, tokenizer: Tokenizer, context: int) -> View:
        return SpanView.of(tokenizer, context, self.density, self.mean)

    def objective(self) -> Objective:
        return OBJECTIVES["causal"]


def check_sees_both_sides(spec: ModelSpec) -> None:
    """Refuse a causal model: what it is to say of a token would be what comes before alone."""
    if spec.not_causal is None:
        cure = 'choose an encoder, such as family = "bert", or train it with objective = "causal"'
        raise InputError("model", "sees no later tokens, and what is masked is told from both sides", cure)
