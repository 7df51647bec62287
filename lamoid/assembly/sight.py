"""Which tokens a mixer sees: order (causal, bidirectional, prefix) and reach (all of them, or a window)."""

import msgspec

from lamoid.assembly.bounds import MOST_CONTEXT, whole


class CausalSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="causal"):
    """A token sees itself and what came before it."""


class BidirectionalSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bidirectional"):
    """A token sees its whole document."""


class PrefixSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="prefix"):
    """Causal, but for tokens that the batch's stream ``prefix`` marks with 1: their whole document sees them."""


SeesSpec = CausalSpec | BidirectionalSpec | PrefixSpec


class EverywhereSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="everywhere"):
    """A token sees as far as its document goes."""


class WindowSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="window"):
    """A token sees others that are fewer than ``tokens`` places away, itself among them."""

    tokens: int

    def __post_init__(self) -> None:
        whole("window.tokens", self.tokens, 1, MOST_CONTEXT)


ReachSpec = EverywhereSpec | WindowSpec
