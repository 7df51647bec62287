"""What surrounds a part of a model: all that a part's size depends on and that its own spec does not say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scope:
    """``width`` of the stream that comes in, ``memory`` the width of what cross-attention reads (0: there is nothing).

    ``vocab`` and ``context`` are the whole model's.
    """

    width: int
    vocab: int
    context: int
    memory: int = 0
