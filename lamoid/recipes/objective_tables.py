"""What ``[objective]`` of a training recipe may say: what is learnt, from which data, by which models."""

from lamoid.assembly.model import check_writes
from lamoid.assembly.spec import ModelSpec
from lamoid.data.loader import NextTokens, View
from lamoid.recipes.pretraining_objectives import (
    MaskedTable,
    NextSentenceTable,
    PrefixTable,
    SentenceOrderTable,
    SpanTable,
)
from lamoid.recipes.replaced_objective import ReplacedTable
from lamoid.recipes.text_objective import TextObjective, check_reads_text
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import OBJECTIVES, Objective


class CausalTable(TextObjective, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="causal"):
    """Say which token comes next, in each place."""

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that cannot learn which token comes next from a text alone."""
        check_writes(spec)
        check_reads_text(spec)

    def view(self, tokenizer: Tokenizer, context: int) -> View:
        return NextTokens(context)

    def objective(self) -> Objective:
        return OBJECTIVES["causal"]


AnyObjective = (
    CausalTable | PrefixTable | MaskedTable | NextSentenceTable | SentenceOrderTable | SpanTable | ReplacedTable
)
