"""What a training run reads: batches without end to learn from, and examples to measure on."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from lamoid.data.manifest import NAME
from lamoid.data.shards import Shards
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import Example


class Positioned(Protocol):
    """A source of examples without end that knows where it is."""

    @property
    def position(self) -> Any: ...

    def __iter__(self) -> Iterator[Example]: ...

    def __next__(self) -> Example: ...


@dataclass(frozen=True)
class Feed:
    """``open`` gives the source from a saved position on, or from the start for ``None``.

    ``validation`` gives each example to measure on once, ``None`` where none are kept; ``sample`` gives some that a
    change of the model can be judged by.
    """

    open: Callable[[Any], Positioned]
    validation: Callable[[], Iterator[Example]] | None
    sample: Callable[[], Iterator[Example]]


class Gathered(Protocol):
    """The data of a recipe, found and checked; ``identity`` names it by hashes, to be compared when a run goes on."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    def identity(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TextData:
    """A tokenizer and the tokens it made; ``validation`` is ``None`` where the recipe keeps none."""

    tokenizer: Tokenizer
    train: Shards
    validation: Shards | None

    def identity(self) -> dict[str, Any]:
        """Give hashes that name the tokens and the tokenizer."""
        return {
            "tokenizer": self.tokenizer.fingerprint(),
            "train": _hash(self.train),
            "validation": None if self.validation is None else _hash(self.validation),
        }


def _hash(shards: Shards) -> str:
    description = (shards.folder / NAME).read_bytes()
    return f"{hashlib.sha256(description).hexdigest()}:{shards.first}:{shards.last}"
