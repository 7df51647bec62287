"""What a training run reads: batches without end to learn from, and examples to measure on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from lamoid.data.loader import Loader, View, sequential
from lamoid.data.manifest import NAME
from lamoid.data.shards import Shards
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.loop import grouped
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
    change of the model can be judged by. ``steps`` joins what an opened source gives into steps, of as many parts as
    the recipe accumulates.
    """

    open: Callable[[Any], Positioned]
    validation: Callable[[], Iterator[Example]] | None
    sample: Callable[[], Iterator[Example]]
    steps: Callable[[Positioned, int], Iterator[Sequence[Example]]] = grouped


class Gathered(Protocol):
    """The data of a recipe, found and checked; ``identity`` names it by hashes, to be compared when a run goes on."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    def identity(self) -> dict[str, Any]: ...


class Text(Gathered, Protocol):
    """Data that is tokens in a row, to be cut into windows."""

    def parts(self) -> Sequence[Shards]:
        """Give all there are, to train and to measure on."""
        ...

    def feed(self, view: View, *, batch: int, measured: int, seed: int) -> Feed:
        """Cut them: ``batch`` windows at once to train, ``measured`` at once to measure."""
        ...


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

    def parts(self) -> Sequence[Shards]:
        """Give the tokens to train and to measure on."""
        return [self.train] if self.validation is None else [self.train, self.validation]

    def feed(self, view: View, *, batch: int, measured: int, seed: int) -> Feed:
        """Cut the tokens into windows."""
        validation = None if self.validation is None else partial(sequential, self.validation, view, batch=measured)
        return Feed(
            open=lambda position: Loader(self.train, view, batch=batch, seed=seed, position=position),
            validation=validation,
            sample=validation or partial(sequential, self.train, view, batch=measured),
        )


def _hash(shards: Shards) -> str:
    description = (shards.folder / NAME).read_bytes()
    return f"{hashlib.sha256(description).hexdigest()}:{shards.first}:{shards.last}"
