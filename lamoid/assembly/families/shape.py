"""A model in a few numbers, as recipes write it; what is left out follows the family's custom."""

from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.families.table import FAMILIES
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError


class Shape(Sizes, frozen=True, forbid_unknown_fields=True):
    """The size of a model of a family: ``Shape(family="llama", width=128, layers=4, heads=4).spec(vocab=4096)``.

    ``kv_heads`` 0 means as many as ``heads``, ``head_width`` 0 width / heads, ``hidden`` 0 four times the width, or 8/3
    of it rounded up to a multiple of 8 where the feed-forward is gated, as LLaMA's is.
    """

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError("family", f"is {self.family[:80]!r}", f"choose one of {', '.join(FAMILIES)}")

    def spec(self, vocab: int) -> ModelSpec:
        """Write the shape out as a spec."""
        if self.heads < 1 or (self.width % self.heads and not self.head_width):
            problem = f"is {self.heads}, does not divide width {self.width}"
            raise InputError("model.heads", problem, "choose a divisor of the width, or give head_width")
        family = FAMILIES[self.family]
        return family.spec(family.sizes(self, vocab), "model")
