"""Loads one model at a time and scores texts with it: what fusing and evaluating have in common."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lamoid.assembly.model import LanguageModel
from lamoid.contained import is_there
from lamoid.data.sources import read_documents
from lamoid.errors import InputError
from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.perplexity import Loss, backward_documents, check_readable, document_losses
from lamoid.fusion.finite import find_not_finite
from lamoid.recipes.progress import Progress
from lamoid.text.tokenizer import Tokenizer
from lamoid.verbs.llama import TOKENIZER_FILES
from lamoid.verbs.placement import find_device, find_dtype
from lamoid.weights.durable import MANIFEST
from lamoid.weights.folder import ModelFolder, load_model, open_folder

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Texts:
    """Texts to score and whether their blocks of 4096 bytes are the units, not they themselves."""

    texts: list[str]
    in_blocks: bool = False


@dataclass(frozen=True)
class Opened:
    """A model that is being measured, as it lies in ``folder``; ``name`` is what messages call it."""

    name: str
    folder: ModelFolder
    model: LanguageModel
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class Measuring:
    """How models are read: in windows of ``context`` tokens, ``batch`` at once, where and in which dtype.

    Fields of a configuration that nobody knows may be passed over if they are among ``ignore_fields``. ``remarks``
    gathers what a reader of the figures should know.
    """

    context: int | None = None
    batch: int | None = None
    device: str = "cpu"
    dtype: str | None = None
    progress: Progress | None = None
    ignore_fields: Sequence[str] = ()
    remarks: list[str] = field(default_factory=list)

    def losses(self, path: Path, *texts: Texts, label: str = "") -> list[list[Loss]]:
        """Load the model at ``path``, score each list of texts and let the model go again.

        Its weights are mapped where they are computed with as they are stored: memory is then taken for what is
        computed, not for them.

        Raises ``InputError`` for a context that the model has not, and for a loss that is not finite, naming the tensor
        that holds NaN or infinity if one does.
        """
        opened = self.open(open_folder(path, ignore_fields=self.ignore_fields), label)
        return [self.score(opened, part) for part in texts]

    def open(self, folder: ModelFolder, label: str = "", *, reads_text: bool = True) -> Opened:
        """Load the model of a folder, whose weights stay mapped where they can; with ``reads_text`` only one that
        writes text, has the context and a tokenizer."""
        place, kind = find_device(self.device), find_dtype(self.dtype)
        name, tokenizer = label or str(folder.path), None
        if reads_text:
            _check_readable(folder)
            _check_context(folder, self.context)
        if reads_text or has_tokenizer(folder.path):
            tokenizer = _read_tokenizer(folder)
        if reads_text and tokenizer is not None and tokenizer.start is None:
            self.remark(f"{name} has no start token: the first token of each text is not scored.")
        size = _converted_bytes(folder, kind)
        if size and place.type == "cpu":
            held = f"each model's {size / 2**20:.0f} MiB were held in memory, beside the bound if there was one"
            self.remark(f"Measured in {self.dtype or 'the widest dtype'}, not as stored: {held}.")
        return Opened(name, folder, load_model(folder, device=place, dtype=kind, views=True), tokenizer)

    def score(self, opened: Opened, part: Texts) -> list[Loss]:
        """Give the losses of texts by a model that was opened to read text."""
        if opened.tokenizer is None:
            raise InputError(opened.name, "holds no tokenizer, which measuring needs", "put its tokenizer.json there")
        if self.progress is not None:
            self.progress.start(f"scoring {opened.name}", unit="tokens")
        losses = document_losses(
            opened.model,
            opened.tokenizer,
            part.texts,
            context=self.context,
            batch=self.batch,
            advance=None if self.progress is None else self.progress.advance,
            in_blocks=part.in_blocks,
        )
        if self.progress is not None:
            self.progress.finish()
        if not all(math.isfinite(loss.nats) for loss in losses):
            raise _not_finite(opened)
        return losses

    def go_back(self, opened: Opened, texts: Sequence[str]) -> int:
        """Add the gradient of the texts' summed nats to that of a model's parameters; give the tokens scored."""
        if opened.tokenizer is None:
            raise InputError(opened.name, "holds no tokenizer, which measuring needs", "put its tokenizer.json there")
        if self.progress is not None:
            self.progress.start(f"descending at {opened.name}", unit="tokens")
        tokens = backward_documents(
            opened.model,
            opened.tokenizer,
            texts,
            context=self.context,
            batch=self.batch,
            advance=None if self.progress is None else self.progress.advance,
        )
        if self.progress is not None:
            self.progress.finish()
        return tokens

    def remark(self, text: str) -> None:
        """Add what a reader of the figures should know, once."""
        if text not in self.remarks:
            self.remarks.append(text)


def read_texts(paths: Paths, *, separator: str | None, field: str) -> list[str]:
    """Read the documents of files, folders and globs into memory."""
    return [document.text for document in read_documents(as_paths(paths), separator=separator, field=field)]


def as_paths(paths: Paths) -> list[str | Path]:
    """Take one path for a list of one."""
    return [paths] if isinstance(paths, str | Path) else list(paths)


def name_paths(paths: Paths) -> str:
    """Name files in a message."""
    return ", ".join(str(path) for path in as_paths(paths))


def has_tokenizer(folder: Path) -> bool:
    """Say whether a model folder holds a tokenizer."""
    return any(is_there(folder, name) for name in TOKENIZER_FILES)


def known_hash(folder: Path) -> str | None:
    """Give a model's hash where its manifest says those of its files; None where they would have to be read."""
    return hash_model(folder) if (folder / MANIFEST).exists() else None


def _check_readable(folder: ModelFolder) -> None:
    try:
        check_readable(folder.spec)
    except InputError as error:
        raise InputError(f"{folder.path}: {error.culprit}", error.problem, error.cure) from error


def _check_context(folder: ModelFolder, context: int | None) -> None:
    most = folder.spec.context
    if context is not None and not 1 <= context <= most:
        problem = f"is {context}, {folder.path} reads 1 to {most} tokens at once"
        raise InputError("context", problem, "ask for one of those")


def _read_tokenizer(folder: ModelFolder) -> Tokenizer:
    """Read the tokenizer as ``lamoid.load`` does: ends that it does not name are those of the configuration."""
    tokenizer = Tokenizer.read(folder.path)
    if tokenizer.end is not None or (folder.start is None and folder.end is None):
        return tokenizer
    start = folder.start if tokenizer.start is None else tokenizer.start
    return Tokenizer.read(folder.path, start=start, end=folder.end)


def _converted_bytes(folder: ModelFolder, dtype: torch.dtype | None) -> int:
    """Give the bytes that the weights take once converted; 0 where they are used as they are stored, mapped."""
    stored = [folder.tensors[name] for name in dict.fromkeys(part.theirs for part in folder.names.parts.values())]
    dtypes = {info.dtype for info in stored}
    if dtypes == {dtype} or (dtype is None and len(dtypes) == 1):
        return 0
    widest = max(dtypes, key=lambda each: each.itemsize)
    return sum(info.elements for info in stored) * (dtype or widest).itemsize


def _not_finite(opened: Opened) -> InputError:
    found = find_not_finite(opened.folder.tensors)
    if found is not None:
        cure = "train or fetch this model anew, or leave it out"
        return InputError(f"{opened.name}: tensor {found}", "holds NaN or infinity", cure)
    problem = "its loss is not a finite number, though its weights are"
    return InputError(opened.name, problem, "measure it with float32 numbers")
