"""A model in a few numbers, as recipes write it."""

import msgspec

from lamoid.errors import InputError


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers that most families have; 0 leaves one to the family's custom."""

    family: str = "llama"
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 0
    head_width: int = 0
    hidden: int = 0
    context: int = 256
    tied: bool = True
    base: float = 10000.0

    @property
    def gated_hidden(self) -> int:
        """``hidden``, or 8/3 of the width rounded up to a multiple of 8, as gated feed-forwards have it."""
        return self.hidden or -(-self.width * 8 // 24) * 8

    def refuse_rotary(self) -> None:
        """Refuse what a family without key heads, head widths and rotary positions of its own has no choice of."""
        foreign = {"kv_heads": self.kv_heads not in (0, self.heads), "base": self.base != 10000.0}
        foreign["head_width"] = self.head_width not in (0, self.width // self.heads)
        for name, is_set in foreign.items():
            if is_set:
                raise InputError(f"model.{name}", f"is set, but {self.family} has no such choice", "leave it out")
