"""Which layers see a sliding window, in Hugging Face's words: sliding_window, use_sliding_window and layer_types."""

from collections.abc import Sequence
from typing import Any

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.sight import EverywhereSpec, ReachSpec, WindowSpec

FULL, SLIDING = "full_attention", "sliding_attention"


def read_reaches(fields: Fields, window: int | None, usual: Sequence[bool]) -> list[ReachSpec]:
    """Give each layer's reach: a window of so many tokens where layer_types say so, or else where ``usual`` is true.

    Without a window no layer may slide.
    """
    kinds = fields.several("layer_types", len(usual), (FULL, SLIDING))
    slides = [window is not None and layer for layer in usual] if kinds is None else [kind == SLIDING for kind in kinds]
    if window is None and any(slides):
        fields.refuse("layer_types", kinds, f"nothing but {FULL} where there is no sliding window")
    return [reaching(window if layer else None) for layer in slides]


def read_window(fields: Fields, default: int | None) -> int | None:
    """Give the window's tokens, ``None`` if use_sliding_window is false, as it is where it is absent."""
    window = fields.whole_or_none("sliding_window", default)
    return window if fields.flag("use_sliding_window", False) else None


def read_upper_reaches(fields: Fields, layers: int) -> list[ReachSpec]:
    """Give each layer's reach as Qwen has it: layers slide from max_window_layers on, if any do."""
    first = fields.whole("max_window_layers", 28, low=0)
    return read_reaches(fields, read_window(fields, 4096), [layer >= first for layer in range(layers)])


def write_reaches(mixers: Sequence[AttentionSpec]) -> dict[str, Any]:
    """Write the layers' kinds and the window of the first layer that has one."""
    windows = [window_of(mixer) for mixer in mixers]
    found = [window for window in windows if window is not None]
    return {
        "layer_types": [FULL if window is None else SLIDING for window in windows],
        "sliding_window": found[0] if found else None,
        "use_sliding_window": bool(found),
    }


def write_upper_reaches(mixers: Sequence[AttentionSpec]) -> dict[str, Any]:
    """Write Qwen's words, the number of layers below the first that slides too, which old versions go by."""
    words = write_reaches(mixers)
    kinds = words["layer_types"]
    return {**words, "max_window_layers": kinds.index(SLIDING) if SLIDING in kinds else len(kinds)}


def reaching(window: int | None) -> ReachSpec:
    """Give the reach of a window of so many tokens, ``None`` for everywhere."""
    return EverywhereSpec() if window is None else WindowSpec(window)


def window_of(mixer: AttentionSpec) -> int | None:
    """Give the tokens of a mixer's window, ``None`` if it sees everywhere."""
    return mixer.reach.tokens if isinstance(mixer.reach, WindowSpec) else None
