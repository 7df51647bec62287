"""What a model reads: integer tensors of one batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lamoid.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Token ids and what is known about them, all integer tensors of shape (B, T).

    ``segments`` numbers the documents of a row from 1; 0 is padding; ``None`` means that each row is one document.
    ``types`` are token types (BERT's sentence A and B); ``source`` is the batch an encoder reads for this one.
    ``streams`` are further integer tensors by name: ids of another vocabulary, place for place with ``ids``, and
    ``prefix``, which is 1 where a token belongs to what a prefix attention sees from everywhere.
    """

    ids: Tensor
    segments: Tensor | None = None
    types: Tensor | None = None
    source: "Batch | None" = None
    streams: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Batch":
        """Give the same batch on ``device``."""
        return Batch(
            self.ids.to(device),
            None if self.segments is None else self.segments.to(device),
            None if self.types is None else self.types.to(device),
            None if self.source is None else self.source.to(device),
            {name: stream.to(device) for name, stream in self.streams.items()},
        )

    def stream(self, name: str) -> Tensor:
        """Give the ids of a stream, ``ids``, ``types`` or a further one; ``InputError`` if it is not there."""
        found = {"ids": self.ids, "types": self.types}.get(name, self.streams.get(name))
        if found is None:
            raise InputError(f"batch.streams.{name}", "is not in the batch", "give the stream that the model reads")
        if found.shape != self.ids.shape:
            problem = f"has the shape {tuple(found.shape)}, ids has {tuple(self.ids.shape)}"
            raise InputError(f"batch.streams.{name}", problem, "give one number for each token")
        return found

    def counts(self) -> list[int]:
        """Count each row's tokens that are not padding."""
        if self.segments is None:
            return [self.ids.shape[1]] * self.ids.shape[0]
        return (self.segments != 0).sum(1).tolist()


def as_batch(reading: Batch | Tensor) -> Batch:
    """Take a bare (B, T) tensor of ids for a batch."""
    return reading if isinstance(reading, Batch) else Batch(reading)
