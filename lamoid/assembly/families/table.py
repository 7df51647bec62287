"""The table of families; one row each."""

from typing import Any, NamedTuple

from lamoid.assembly.families.bert import BERT
from lamoid.assembly.families.distilbert import DISTILBERT
from lamoid.assembly.families.electra import ELECTRA
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.gemma2 import GEMMA2
from lamoid.assembly.families.gemma3 import GEMMA3
from lamoid.assembly.families.gpt2 import GPT2
from lamoid.assembly.families.gpt_neox import GPT_NEOX
from lamoid.assembly.families.llama import LLAMA
from lamoid.assembly.families.mistral import MISTRAL
from lamoid.assembly.families.mixtral import MIXTRAL
from lamoid.assembly.families.olmo2 import OLMO2
from lamoid.assembly.families.phi3 import PHI3
from lamoid.assembly.families.qwen2 import QWEN2
from lamoid.assembly.families.qwen3 import QWEN3
from lamoid.assembly.families.roberta import ROBERTA
from lamoid.assembly.families.smollm3 import SMOLLM3
from lamoid.assembly.families.t5 import T5
from lamoid.assembly.spec import ModelSpec


class Kinship(NamedTuple):
    """What a spec is to Hugging Face: a family, one of its classes, and the configuration that reads back as it."""

    family: Family
    architecture: Architecture
    config: dict[str, Any]


def family_of(spec: ModelSpec, first: Family | None = None) -> Kinship | None:
    """Find the family whose configuration, written for ``spec``, reads back as the same spec; ``first`` is tried first.

    A Mistral without a window is a LLaMA as well, so it matters where a model came from.
    """
    for family in (*(() if first is None else (first,)), *FAMILIES.values()):
        written = family.written(spec)
        if written is not None:
            return Kinship(family, *written)
    return None


_ROWS = (
    LLAMA,
    GPT2,
    MISTRAL,
    QWEN2,
    QWEN3,
    SMOLLM3,
    PHI3,
    OLMO2,
    GEMMA2,
    GEMMA3,
    MIXTRAL,
    GPT_NEOX,
    BERT,
    DISTILBERT,
    ROBERTA,
    ELECTRA,
    T5,
)
FAMILIES: dict[str, Family] = {family.model_type: family for family in _ROWS}
