"""The tokens of a training run: prepared shards as they are, or text that is prepared into the run's folder once."""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from lamoid.data.hub_sets import is_hub_name
from lamoid.data.manifest import NAME
from lamoid.data.prepare import PART, prepare
from lamoid.data.shards import Shards, open_shards
from lamoid.data.sources import Document, read_documents
from lamoid.errors import InputError
from lamoid.recipes.feed import TextData
from lamoid.recipes.mixed_data import MixedText
from lamoid.recipes.progress import Progress
from lamoid.recipes.source_table import TextTable
from lamoid.recipes.training_recipe import CharactersTokenizer, DataTable, FolderModel, FolderTokenizer, TrainingRecipe
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.weights.durable import durable_folder

Texts = Callable[[], Iterator[Document]]


def gather_data(recipe: TrainingRecipe, folder: Path, progress: Progress | None) -> TextData | MixedText:
    """Open the recipe's data; text is prepared into ``folder``, unless that was done before.

    Of several sources each has a folder of its own in there; the tokenizer, if one is learned, is that of all.
    """
    if not isinstance(recipe.data, DataTable):
        raise InputError("data.kind", "is 'rows', and the objective learns from text", "name an objective of rows")
    sources = dict(sorted(recipe.data.sources.items()))
    tables = (
        [_Place(recipe.data, folder, "data")]
        if not sources
        else [_Place(table, folder / name, f"data.sources.{name}") for name, table in sources.items()]
    )
    texts = [None if is_prepared(place.table.train) else _texts(place) for place in tables]
    tokenizer = _tokenizer(recipe, tables, [readers[0] for readers in texts if readers], progress)
    found = [_gather(place, readers, tokenizer, progress) for place, readers in zip(tables, texts, strict=True)]
    if not sources:
        return found[0]
    return MixedText(tokenizer, dict(zip(sources, found, strict=True)), {n: t.weight for n, t in sources.items()})


@dataclass(frozen=True)
class _Place:
    """What a recipe says of one source, the folder that it is prepared in, and where in the recipe that stands."""

    table: TextTable
    folder: Path
    key: str


def _tokenizer(
    recipe: TrainingRecipe, places: Sequence[_Place], texts: Sequence[Texts], progress: Progress | None
) -> Tokenizer:
    """Give the tokenizer that is given, or that made what is prepared already, or else one learned from all texts."""
    if (given := given_tokenizer(recipe)) is not None:
        return given
    for place in places:
        for prepared in (place.table.train, (str(place.folder / "train"),)):
            if is_prepared(prepared):
                return Tokenizer.read(prepared[0])
    return learn_tokenizer(recipe, lambda: chain.from_iterable(read() for read in texts), progress)


def _gather(
    place: _Place, texts: tuple[Texts, Texts | None] | None, tokenizer: Tokenizer, progress: Progress | None
) -> TextData:
    """Open or prepare one source; ``texts`` reads what to train on and what is held out, ``None`` for shards."""
    table, folder = place.table, place.folder / "train"
    if texts is None:
        folder = Path(table.train[0])
    elif not is_prepared((str(folder),)):
        _prepare(texts[0], tokenizer, folder, progress)
    train = open_shards(folder, hashes=True)
    train.check_tokenizer(tokenizer.fingerprint())
    if texts is None and table.hold_out:
        return TextData(tokenizer, train.part(0, 1 - table.hold_out), train.part(1 - table.hold_out, 1))
    return TextData(tokenizer, train, _validation(place, tokenizer, None if texts is None else texts[1], progress))


def is_prepared(paths: tuple[str, ...]) -> bool:
    """Is this one folder of token shards, rather than text?"""
    return len(paths) == 1 and (Path(paths[0]) / NAME).is_file()


def _validation(
    place: _Place, tokenizer: Tokenizer, held_out: Texts | None, progress: Progress | None
) -> Shards | None:
    """Open or prepare what is kept for validation."""
    table = place.table
    if held_out is None and not table.validation:
        return None
    folder = place.folder / "validation"
    if is_prepared(table.validation):
        folder = Path(table.validation[0])
    elif not is_prepared((str(folder),)):
        _prepare(held_out or _reader(place, "validation"), tokenizer, folder, progress)
    shards = open_shards(folder, hashes=True)
    shards.check_tokenizer(tokenizer.fingerprint())
    return shards


def _texts(place: _Place) -> tuple[Texts, Texts | None]:
    """Give a reader of the training text and, where the recipe holds some out, of the rest."""
    table, whole = place.table, _reader(place, "train")
    if not table.hold_out:
        return whole, None
    total = sum(len(document.text) for document in whole())
    cut = int(total * (1 - table.hold_out))
    if not 0 < cut < total:
        raise InputError(
            f"{place.key}.hold_out", f"of {total} characters leaves nothing on one side", "choose another share"
        )
    return lambda: _until(whole(), cut), lambda: _from(whole(), cut)


def _reader(place: _Place, key: Literal["train", "validation"]) -> Texts:
    """Make the function that reads a source's texts to train or to measure on from their beginning."""
    table = place.table
    paths: tuple[str, ...] = getattr(table, key)

    def read() -> Iterator[Document]:
        for path in paths:
            if not (is_hub_name(path) or glob.has_magic(path) or Path(path).exists()):
                raise InputError(path, "names no file", f"give the text with --set {place.key}.{key}=PATH")
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


def given_tokenizer(recipe: TrainingRecipe) -> Tokenizer | None:
    """Read the tokenizer of the model to go on from, or the one that the recipe names."""
    if isinstance(recipe.model, FolderModel):
        return Tokenizer.read(recipe.model.from_)
    return Tokenizer.read(recipe.tokenizer.from_) if isinstance(recipe.tokenizer, FolderTokenizer) else None


def learn_tokenizer(recipe: TrainingRecipe, texts: Texts, progress: Progress | None) -> Tokenizer:
    table = recipe.tokenizer
    if table is None or isinstance(table, FolderTokenizer):
        raise InputError("tokenizer", "is missing", 'give a table, such as {kind = "bytes", vocab = 4096}')
    if progress is not None:
        progress.say("learning a tokenizer from the training text")
    pieces = (document.text for document in texts())
    controls: dict[str, Any] = {"vocab": table.vocab, "mask": table.mask, "sentinels": table.sentinels}
    if isinstance(table, CharactersTokenizer):
        return train_tokenizer(pieces, kind="characters", closed=table.closed, **controls)
    return train_tokenizer(pieces, kind="bytes", **controls)


def _prepare(texts: Texts, tokenizer: Tokenizer, out: Path, progress: Progress | None) -> None:
    if progress is not None:
        progress.start(f"preparing {out.name}", None, "B")
    advance = None if progress is None else progress.advance
    prepare(texts(), tokenizer, out, folder=durable_folder, advance=advance)
    if progress is not None:
        progress.finish()
