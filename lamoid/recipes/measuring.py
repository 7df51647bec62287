"""Loads one model at a time and scores texts with it: what fusing and evaluating have in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamoid.data.sources import read_documents
from lamoid.errors import InputError
from lamoid.evaluation.perplexity import Loss, block_losses, document_losses
from lamoid.fusion.stream import find_not_finite
from lamoid.recipes.progress import Progress
from lamoid.verbs.llama import Llama, load
from lamoid.weights.folder import open_folder

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Texts:
    """Texts to score and whether their blocks of 4096 bytes are the units, not they themselves."""

    texts: list[str]
    in_blocks: bool = False


@dataclass(frozen=True)
class Measuring:
    """How models are read: in windows of ``context`` tokens, ``batch`` at once, where and in which dtype.

    ``remarks`` gathers what a reader of the figures should know.
    """

    context: int | None = None
    batch: int | None = None
    device: str = "cpu"
    dtype: str | None = None
    progress: Progress | None = None
    remarks: list[str] = field(default_factory=list)

    def losses(self, path: Path, *texts: Texts, label: str = "") -> list[list[Loss]]:
        """Load the model at ``path``, score each list of texts and let the model go again.

        Raises ``InputError`` for a context that the model has not, and for a loss that is not finite, naming the tensor
        that holds NaN or infinity if one does.
        """
        model = load(path, device=self.device, dtype=self.dtype)
        _check_context(path, model, self.context)
        if model.tokenizer.start is None:
            self.remarks.append(f"{path} has no start token: the first token of each text is not scored.")
        return [self._score(path, model, part, label or str(path)) for part in texts]

    def _score(self, path: Path, model: Llama, part: Texts, label: str) -> list[Loss]:
        if self.progress is not None:
            self.progress.start(f"scoring {label}", unit="tokens")
        score = block_losses if part.in_blocks else document_losses
        advance = None if self.progress is None else self.progress.advance
        losses = score(
            model.model, model.tokenizer, part.texts, context=self.context, batch=self.batch, advance=advance
        )
        if self.progress is not None:
            self.progress.finish()
        if not all(math.isfinite(loss.nats) for loss in losses):
            raise _not_finite(path)
        return losses


def read_texts(paths: Paths, *, separator: str | None, field: str) -> list[str]:
    """Read the documents of files, folders and globs into memory."""
    return [document.text for document in read_documents(as_paths(paths), separator=separator, field=field)]


def as_paths(paths: Paths) -> list[str | Path]:
    """Take one path for a list of one."""
    return [paths] if isinstance(paths, str | Path) else list(paths)


def name_paths(paths: Paths) -> str:
    """Name files in a message."""
    return ", ".join(str(path) for path in as_paths(paths))


def _check_context(path: Path, model: Llama, context: int | None) -> None:
    if context is not None and not 1 <= context <= model.spec.context:
        raise InputError(
            "context", f"is {context}, {path} reads 1 to {model.spec.context} tokens at once", "ask for one of those"
        )


def _not_finite(path: Path) -> InputError:
    name = find_not_finite(open_folder(path).tensors)
    if name is not None:
        cure = "train or fetch this model anew, or leave it out"
        return InputError(f"{path}: tensor {name}", "holds NaN or infinity", cure)
    return InputError(
        path, "its loss is not a finite number, though its weights are", "measure it with float32 numbers"
    )
