"""What a model reads: integer tensors of one batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token ids and what is known about them, all integer tensors of shape (B, T).

    ``segments`` numbers the documents of a row from 1; 0 is padding; ``None`` means that each row is one document.
    ``types`` are token types (BERT's sentence A and B); ``source`` is the batch an encoder reads for this one.
    """

    ids: Tensor
    segments: Tensor | None = None
    types: Tensor | None = None
    source: "Batch | None" = None

    def to(self, device: torch.device | str) -> "Batch":
        """Give the same batch on ``device``."""
        return Batch(
            self.ids.to(device),
            None if self.segments is None else self.segments.to(device),
            None if self.types is None else self.types.to(device),
            None if self.source is None else self.source.to(device),
        )


def as_batch(reading: Batch | Tensor) -> Batch:
    """Take a bare (B, T) tensor of ids for a batch."""
    return reading if isinstance(reading, Batch) else Batch(reading)
