"""Finds the files of a tokenizer, whichever of the known forms they have, and makes one tokenizer.json of them.

In a folder the first of these wins: tokenizer.json; vocab.json with merges.txt, or encoder.json with vocab.bpe;
tokenizer.model, spiece.model or sentencepiece.model (sentencepiece, or tiktoken's ranks: the first line tells);
vocab.txt (BERT). A file that the person names is read as what its content is.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamoid.contained import is_there, open_plain, read_inside, read_whole
from lamoid.errors import InputError
from lamoid.text.checking import LARGEST_VOCABULARY, parse_object
from lamoid.text.document import added_token
from lamoid.text.gpt2 import gpt2_files
from lamoid.text.sentencepiece import sentencepiece_document
from lamoid.text.tiktoken import is_rank_file, tiktoken_document
from lamoid.text.wordpiece import wordpiece_document

LARGEST_FILE = 128 * 2**20
Document = dict[str, Any]


def tokenizer_files(path: Path) -> tuple[dict[str, bytes], Path]:
    """Give the files of the tokenizer at ``path``, a folder or one file, and the path of the one that decided.

    Always with a tokenizer.json and a tokenizer_config.json. Raise InputError for whatever cannot be used.
    """
    folder = path.is_dir()
    place = path if folder else path.parent
    main = path / "tokenizer.json" if folder else path
    if folder and not is_there(path, main.name):
        return _converted_folder(path)
    if not is_there(place, main.name):
        raise _nothing(path)
    if not folder and (convert := _form(path)) is not None:
        return _converted(convert, read_whole(path, limit=LARGEST_VOCABULARY), path), path
    # A file that the person names may lie anywhere; what is only found beside it must be the folder's own.
    data = _read_file(place, main.name) if folder else read_whole(main, limit=LARGEST_FILE)
    return {"tokenizer.json": data, "tokenizer_config.json": _CONFIG, **_read_beside(place)}, main


def _converted_folder(folder: Path) -> tuple[dict[str, bytes], Path]:
    for vocabulary, merges in _PAIRS:
        if is_there(folder, vocabulary) and is_there(folder, merges):
            made = gpt2_files(_read_file(folder, vocabulary), _read_file(folder, merges), folder)
            return {**made, **_read_beside(folder)}, folder / vocabulary
    for name in (*_MODELS, "vocab.txt"):
        if is_there(folder, name):
            data = read_inside(folder, name, limit=LARGEST_VOCABULARY)
            convert = wordpiece_document if name == "vocab.txt" else _model_form(data)
            return _converted(convert, data, folder / name), folder / name
    raise _nothing(folder)


def _nothing(path: Path) -> InputError:
    return InputError(
        path,
        f"holds no tokenizer (none of tokenizer.json, vocab.json with merges.txt, {', '.join(_MODELS)}, vocab.txt)",
        "name a folder or file that has one, or make one with `lamoid tokenizer`",
    )


def _form(path: Path) -> Callable[..., tuple[Document, Document]] | None:
    """Give what converts the file that a person named; None if it is to be read as a tokenizer.json."""
    if path.suffix == ".txt":
        return wordpiece_document
    if path.suffix == ".json":
        return None
    descriptor, _ = open_plain(path)
    with os.fdopen(descriptor, "rb") as file:
        opening = file.read(4096)
    return None if opening.lstrip().startswith(b"{") else _model_form(opening)


def _model_form(data: bytes) -> Callable[..., tuple[Document, Document]]:
    return _ranks if is_rank_file(data) else sentencepiece_document


def _ranks(data: bytes, name: object, beside: Document) -> tuple[Document, Document]:
    return tiktoken_document(data, name)


def _converted(convert: Callable[..., tuple[Document, Document]], data: bytes, path: Path) -> dict[str, bytes]:
    beside = _read_beside(path.parent)
    settings = _object(beside, "tokenizer_config.json", path.parent)
    document, made = convert(data, path, settings)
    _add_more(document, _more_tokens(beside, settings, path.parent), path.parent)
    kept = {key: settings[key] for key in _KEPT if key in settings}
    files = {name: data for name, data in beside.items() if name != "added_tokens.json"}
    return {
        **files,
        "tokenizer.json": json.dumps(document, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps({**made, **kept}, indent=2).encode() + b"\n",
    }


def _more_tokens(beside: dict[str, bytes], settings: Document, folder: Path) -> dict[str, tuple[int, bool]]:
    """Give the tokens that the files beside a vocabulary add to it: content to id and whether it is a control token."""
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise InputError(folder / "tokenizer_config.json", "added_tokens_decoder is no JSON object", "mend the file")
    found: dict[str, tuple[Any, bool]] = {}
    for content, number in _object(beside, "added_tokens.json", folder).items():
        found[content] = (number, content.startswith(("<", "[")) and content.endswith((">", "]")))
    for number, token in decoder.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not number.isdecimal() or len(number) > 9:
            where = f"{folder / 'tokenizer_config.json'}: added_tokens_decoder: {number[:40]}"
            raise InputError(where, "is no id with a token", "mend the file")
        found[content] = (int(number), token.get("special") is True)
    for content, (number, _) in found.items():
        if type(number) is not int or not content:
            raise InputError(folder / "added_tokens.json", f"{content[:80]!r}: no id with a token", "mend the file")
    return found


def _add_more(document: Document, more: dict[str, tuple[int, bool]], folder: Path) -> None:
    """Number added tokens on from the vocabulary; those that are there already must have the same id."""
    vocabulary = document["model"]["vocab"]
    pieces = vocabulary if isinstance(vocabulary, dict) else {piece: k for k, (piece, _) in enumerate(vocabulary)}
    ids = {**pieces, **{token["content"]: token["id"] for token in document["added_tokens"]}}
    for content, (number, special) in sorted(more.items(), key=lambda item: item[1]):
        if number != ids.get(content, len(ids)):
            problem = f"the added token {content[:80]!r} has id {number}, and {ids.get(content, len(ids))} is due"
            raise InputError(folder, problem, "bring a tokenizer.json instead")
        if content not in ids:
            document["added_tokens"].append(added_token(content, number, special=special))
            ids[content] = number


def _object(beside: dict[str, bytes], name: str, folder: Path) -> Document:
    return parse_object(beside[name], str(folder / name)) if name in beside else {}


def _read_file(folder: Path, name: str) -> bytes:
    return read_inside(folder, name, limit=LARGEST_FILE)


def _read_beside(folder: Path) -> dict[str, bytes]:
    """Read the other files of a tokenizer, which are saved with every model that uses it."""
    return {name: _read_file(folder, name) for name in _BESIDE if is_there(folder, name)}


_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_MODELS = ("tokenizer.model", "spiece.model", "sentencepiece.model")
_CONFIG = b'{\n  "tokenizer_class": "PreTrainedTokenizerFast",\n  "clean_up_tokenization_spaces": false\n}\n'
# Of a tokenizer_config.json written for another form only this still holds for the tokenizer.json made from it.
_KEPT = (
    *(f"{role}_token" for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")),
    "additional_special_tokens",
    "extra_special_tokens",
    "chat_template",
    "model_max_length",
    "padding_side",
    "truncation_side",
)
