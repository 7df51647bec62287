"""What ``[objective]`` of a training recipe may say: what is learnt, from which data, by which models."""

from abc import abstractmethod
from functools import partial

import msgspec

from lamoid.assembly.model import check_writes
from lamoid.assembly.paths import walk
from lamoid.assembly.sight import PrefixSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.wiring import StackSpec
from lamoid.data.loader import Loader, NextTokens, View, sequential
from lamoid.errors import InputError
from lamoid.recipes.feed import Feed, TextData
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import OBJECTIVES, Objective


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

    def feed(self, data: TextData, context: int, *, batch: int, measured: int, seed: int) -> Feed:
        """Cut the data into windows: ``batch`` of them at once to train, ``measured`` at once to measure."""
        view = self.view(data.tokenizer, context)
        validation = None if data.validation is None else partial(sequential, data.validation, view, batch=measured)
        return Feed(
            open=lambda position: Loader(data.train, view, batch=batch, seed=seed, position=position),
            validation=validation,
            sample=validation or partial(sequential, data.train, view, batch=measured),
        )


class CausalTable(TextObjective, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="causal"):
    """Say which token comes next, in each place."""

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that cannot learn which token comes next from a text alone."""
        check_writes(spec)
        check_reads_text(spec)

    def view(self, tokenizer: Tokenizer, context: int) -> View:
        return NextTokens(context)

    def objective(self) -> Objective:
        return OBJECTIVES["causal"]


AnyObjective = CausalTable


def check_reads_text(spec: ModelSpec) -> None:
    """Raise ``InputError`` for a model that reads streams which a text has not."""
    streams = [part.stream for _, part in walk(spec.blocks) if isinstance(part, StackSpec)]
    streams += ["prefix" for _, part in walk(spec.blocks) if isinstance(part, PrefixSpec)]
    other = next((name for name in streams if name != "ids"), None)
    if other is not None:
        problem = f"reads the stream {other!r}, and a text has no ids but its own"
        cure = "train it in Python with batches that have the stream, or leave that part out"
        raise InputError("model", problem, cure)
