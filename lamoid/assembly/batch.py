"""What a model reads: integer tensors of one batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
            moved(self.ids, device),
            None if self.segments is None else moved(self.segments, device),
            None if self.types is None else moved(self.types, device),
            None if self.source is None else self.source.to(device),
            {name: moved(stream, device) for name, stream in self.streams.items()},
        )

    def stream(self, name: str) -> Tensor:
        """Give the ids of a stream, ``ids``, ``types`` or a further one; ``InputError`` if it is not there."""
        found = {"ids": self.ids, "types": self.types}.get(name, self.streams.get(name))
        if found is not None and not isinstance(found, Tensor):
            problem = f"is a {type(found).__name__}"
            raise InputError(f"batch.streams.{name}", problem, "give a torch tensor of whole numbers")
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


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Give the tensor on ``device``; on its way to a CUDA device it is pinned, so that nobody waits for it."""
    if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def as_batch(reading: Batch | Tensor) -> Batch:
    """Take a bare (B, T) tensor of ids for a batch; raise ``InputError`` for what no model can read.

    Of a source, too, a bare tensor will do; it has as many rows as what reads it.
    """
    batch = reading if isinstance(reading, Batch) else Batch(reading)
    _check_ids("batch.ids", batch.ids)
    if batch.source is None:
        return batch
    source = as_batch(batch.source)
    if len(source.ids) != len(batch.ids):
        problem = f"has {len(source.ids)} rows, ids has {len(batch.ids)}"
        raise InputError("batch.source", problem, "give each text a source of its own")
    return batch if source is batch.source else replace(batch, source=source)


def _check_ids(name: str, ids: Tensor) -> None:
    if not isinstance(ids, Tensor):
        raise InputError(name, f"is a {type(ids).__name__}", "give a torch tensor of token ids")
    if ids.ndim != 2 or not ids.numel():
        raise InputError(name, f"has the shape {tuple(ids.shape)}", "give (rows, tokens), at least one of each")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(name, f"holds {str(ids.dtype).removeprefix('torch.')} numbers", "give whole numbers")


def check_range(name: str, ids: Tensor, rows: int) -> None:
    """Refuse ids beyond a table of ``rows``, on the CPU; a GPU would have to be waited for, and the compiler too."""
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    low, high = (int(end) for end in torch.aminmax(ids))
    if low < 0 or high >= rows:
        problem = f"goes from {low} to {high}, the table has rows from 0 to {rows - 1}"
        raise InputError(name, problem, "give ids of the model's own vocabulary")
