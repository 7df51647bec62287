"""What every objective that is learnt from plain text says in a recipe."""

from abc import abstractmethod
from collections.abc import Sequence

import msgspec

from lamoid.assembly.paths import walk
from lamoid.assembly.sight import PrefixSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.wiring import SOURCE, StackSpec
from lamoid.data.loader import View
from lamoid.errors import InputError
from lamoid.recipes.feed import Feed, Text
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import Objective


class TextObjective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An objective that is learnt from tokens in a row, as ``lamoid prepare`` lays them down."""

    @abstractmethod
    def check(self, spec: ModelSpec) -> None:
        """Raise ``InputError`` if a model of ``spec`` cannot learn it."""

    @abstractmethod
    def view(self, tokenizer: Tokenizer, context: int) -> View:
        """Give what makes examples of at most ``context`` tokens."""

    @abstractmethod
    def objective(self) -> Objective:
        """Give the terms that are minimised."""

    def feed(self, data: Text, context: int, *, batch: int, measured: int, seed: int) -> Feed:
        """Cut the data into windows: ``batch`` of them at once to train, ``measured`` at once to measure."""
        return data.feed(self.view(data.tokenizer, context), batch=batch, measured=measured, seed=seed)

    def shaped(self, spec: ModelSpec) -> ModelSpec:
        """Give a model that the recipe describes in a few numbers what it needs to learn this."""
        return spec

    def beside(self, spec: ModelSpec) -> dict[str, ModelSpec]:
        """Give the models, by name, that are trained beside one of ``spec``."""
        return {}


def check_reads_text(spec: ModelSpec, given: Sequence[str] = ()) -> None:
    """Raise ``InputError`` for a model that reads streams which a text has not, but for those ``given``."""
    streams = [part.stream for _, part in walk(spec.blocks) if isinstance(part, StackSpec)]
    streams += ["prefix" for _, part in walk(spec.blocks) if isinstance(part, PrefixSpec)]
    other = next((name for name in streams if name not in ("ids", *given)), None)
    if other is not None:
        problem = f"reads the stream {other!r}, and a text has no ids but its own"
        cures = {
            "prefix": 'train it with objective = "prefix"',
            SOURCE: 'train it with objective = "span", or with pairs of texts',
        }
        cure = cures.get(other, "train it in Python with batches that have the stream, or leave that part out")
        raise InputError("model", problem, cure)
