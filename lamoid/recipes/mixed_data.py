"""Text from several sources, each prepared by itself with the tokenizer of all, and mixed by weight."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from lamoid.data.loader import Loader, TrainingBatch, View, sequential
from lamoid.data.mixture import Mixture, check_position, source_seed
from lamoid.data.shards import Shards
from lamoid.recipes.feed import Feed, Positioned, TextData
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import Example


@dataclass(frozen=True)
class MixedText:
    """The prepared sources by name, in the order of their names, with one tokenizer, and the weight of each."""

    tokenizer: Tokenizer
    sources: Mapping[str, TextData]
    weights: Mapping[str, float]

    def identity(self) -> dict[str, Any]:
        """Give hashes that name every source's tokens and the tokenizer."""
        return {"tokenizer": self.tokenizer.fingerprint()} | {
            f"source {name}": {key: value for key, value in text.identity().items() if key != "tokenizer"}
            for name, text in self.sources.items()
        }

    def parts(self) -> Sequence[Shards]:
        """Give the tokens of all sources."""
        return [part for text in self.sources.values() for part in text.parts()]

    def feed(self, view: View, *, batch: int, measured: int, seed: int) -> Feed:
        """Cut every source into windows; a part of a step is of one source, and so is each example to measure on."""

        def open_at(position: Any) -> Positioned:
            return self._open(view, batch, seed, position)

        def validation() -> Iterator[Example]:
            return _one_by_one({n: text.validation for n, text in self.sources.items()}, view, measured)

        def training() -> Iterator[Example]:
            return _one_by_one({n: text.train for n, text in self.sources.items()}, view, measured)

        has_any = any(text.validation is not None for text in self.sources.values())
        return Feed(open_at, validation if has_any else None, validation if has_any else training, _steps)

    def _open(self, view: View, batch: int, seed: int, position: Any) -> Mixture:
        if position is not None:
            check_position(position, list(self.sources))
        loaders: dict[str, Loader] = {}
        for name, text in self.sources.items():
            place = None if position is None else position[f"source {name}"]
            loaders[name] = Loader(text.train, view, batch=batch, seed=source_seed(seed, name), position=place)
        return Mixture(loaders, self.weights, batch=batch, seed=seed, step=0 if position is None else position["step"])


def _steps(source: Positioned, accumulation: int) -> Iterator[Sequence[Example]]:
    """Give the mixture's own steps: how many parts each has, it says."""
    return cast("Mixture", source).steps(accumulation)


def _one_by_one(shards: Mapping[str, Any], view: View, rows: int) -> Iterator[TrainingBatch]:
    """Give each source's windows once, the sources one after the other."""
    for name, tokens in shards.items():
        if tokens is not None:
            for example in sequential(tokens, view, batch=rows):
                yield replace(example, source=name)
