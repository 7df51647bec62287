"""The table of families; one row each."""

from lamoid.assembly.families.family import Family
from lamoid.assembly.families.gpt2 import GPT2
from lamoid.assembly.families.llama import LLAMA
from lamoid.assembly.spec import ModelSpec


def family_of(spec: ModelSpec) -> Family | None:
    """Find the family whose configuration, written for ``spec``, reads back as the same spec."""
    for family in FAMILIES.values():
        config = family.config(spec)
        if config is not None and family.spec(config) == spec:
            return family
    return None


FAMILIES: dict[str, Family] = {family.model_type: family for family in (LLAMA, GPT2)}
