"""The tokens of a training run: prepared shards as they are, or text that is prepared into the run's folder once."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lamoid.data.manifest import NAME
from lamoid.data.prepare import PART, prepare
from lamoid.data.shards import Shards, open_shards
from lamoid.data.sources import Document, read_documents
from lamoid.errors import InputError
from lamoid.recipes.feed import TextData
from lamoid.recipes.progress import Progress
from lamoid.recipes.training_recipe import CharactersTokenizer, DataTable, FolderModel, FolderTokenizer, TrainingRecipe
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.weights.durable import durable_folder

Texts = Callable[[], Iterator[Document]]


def gather_data(recipe: TrainingRecipe, folder: Path, progress: Progress | None) -> TextData:
    """Open the recipe's data; text is prepared into ``folder``, unless that was done before."""
    table = recipe.data
    if is_prepared(table.train):
        tokenizer = _given_tokenizer(recipe) or Tokenizer.read(table.train[0])
        train = open_shards(table.train[0], hashes=True)
        train.check_tokenizer(tokenizer.fingerprint())
        if table.hold_out:
            return TextData(tokenizer, train.part(0, 1 - table.hold_out), train.part(1 - table.hold_out, 1))
        return TextData(tokenizer, train, _validation(table, tokenizer, folder, None, progress))
    texts, held_out = _texts(table)
    if not is_prepared((str(folder / "train"),)):
        tokenizer = _given_tokenizer(recipe) or _learn_tokenizer(recipe, texts, progress)
        _prepare(texts, tokenizer, folder / "train", progress)
    tokenizer = Tokenizer.read(folder / "train")
    train = open_shards(folder / "train", hashes=True)
    return TextData(tokenizer, train, _validation(table, tokenizer, folder, held_out, progress))


def is_prepared(paths: tuple[str, ...]) -> bool:
    """Is this one folder of token shards, rather than text?"""
    return len(paths) == 1 and (Path(paths[0]) / NAME).is_file()


def _validation(
    table: DataTable, tokenizer: Tokenizer, folder: Path, held_out: Texts | None, progress: Progress | None
) -> Shards | None:
    """Open or prepare what is kept for validation."""
    if held_out is None and not table.validation:
        return None
    place = folder / "validation"
    if is_prepared(table.validation):
        place = Path(table.validation[0])
    elif not is_prepared((str(place),)):
        _prepare(held_out or _reader(table, "validation"), tokenizer, place, progress)
    shards = open_shards(place, hashes=True)
    shards.check_tokenizer(tokenizer.fingerprint())
    return shards


def _texts(table: DataTable) -> tuple[Texts, Texts | None]:
    """Give a reader of the training text and, where the recipe holds some out, of the rest."""
    whole = _reader(table, "train")
    if not table.hold_out:
        return whole, None
    total = sum(len(document.text) for document in whole())
    cut = int(total * (1 - table.hold_out))
    if not 0 < cut < total:
        raise InputError("data.hold_out", f"of {total} characters leaves nothing on one side", "choose another share")
    return lambda: _until(whole(), cut), lambda: _from(whole(), cut)


def _reader(table: DataTable, key: Literal["train", "validation"]) -> Texts:
    """Make the function that reads the texts of ``data.train`` or ``data.validation`` from their beginning."""
    paths: tuple[str, ...] = getattr(table, key)

    def read() -> Iterator[Document]:
        for path in paths:
            if not glob.has_magic(path) and not Path(path).exists():
                raise InputError(path, "names no file", f"give the text with --set data.{key}=PATH")
        return read_documents(paths, separator=table.separator, field=table.field, part=PART)

    return read


def _until(documents: Iterator[Document], cut: int) -> Iterator[Document]:
    """Give the first ``cut`` characters; the document that goes on beyond ends there."""
    for document in documents:
        if len(document.text) >= cut:
            yield replace(document, text=document.text[:cut], ends=True)
            return
        yield document
        cut -= len(document.text)


def _from(documents: Iterator[Document], cut: int) -> Iterator[Document]:
    """Give all but the first ``cut`` characters."""
    for document in documents:
        skipped = min(cut, len(document.text))
        cut -= skipped
        if skipped < len(document.text):
            yield replace(document, text=document.text[skipped:])


def _given_tokenizer(recipe: TrainingRecipe) -> Tokenizer | None:
    """Read the tokenizer of the model to go on from, or the one that the recipe names."""
    if isinstance(recipe.model, FolderModel):
        return Tokenizer.read(recipe.model.from_)
    return Tokenizer.read(recipe.tokenizer.from_) if isinstance(recipe.tokenizer, FolderTokenizer) else None


def _learn_tokenizer(recipe: TrainingRecipe, texts: Texts, progress: Progress | None) -> Tokenizer:
    table = recipe.tokenizer
    if table is None or isinstance(table, FolderTokenizer):
        raise InputError("tokenizer", "is missing", 'give a table, such as {kind = "bytes", vocab = 4096}')
    if progress is not None:
        progress.say("learning a tokenizer from the training text")
    pieces = (document.text for document in texts())
    if isinstance(table, CharactersTokenizer):
        return train_tokenizer(pieces, kind="characters", vocab=table.vocab, closed=table.closed)
    return train_tokenizer(pieces, kind="bytes", vocab=table.vocab)


def _prepare(texts: Texts, tokenizer: Tokenizer, out: Path, progress: Progress | None) -> None:
    if progress is not None:
        progress.start(f"preparing {out.name}", None, "B")
    advance = None if progress is None else progress.advance
    prepare(texts(), tokenizer, out, folder=durable_folder, advance=advance)
    if progress is not None:
        progress.finish()
