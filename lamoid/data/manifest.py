"""What stands beside token shards: their counts, their hashes, and the tokenizer that made them."""

from pathlib import Path

import msgspec

from lamoid.contained import is_there, read_inside
from lamoid.errors import InputError
from lamoid.strict_json import parse_json

NAME = "corpus.json"
BOUNDARIES = "documents.bin"
CURE = "prepare the data again with `lamoid prepare`"
FORMAT = 1
LARGEST = 100 * 10**6


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of tokens."""

    file: str
    tokens: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of a folder of token shards.

    ``width`` is the number of bytes a token, ``tokenizer`` its fingerprint, ``start`` and ``end`` the ids before and
    after each document (None: no such token), ``boundaries`` the hash of the file of document starts.
    """

    format: int
    documents: int
    tokens: int
    text_bytes: int
    vocab: int
    width: int
    start: int | None
    end: int | None
    tokenizer: str
    boundaries: str
    shards: tuple[Shard, ...]


def shard_name(number: int) -> str:
    """Give the file name of the shard with this number, counted from 0."""
    return f"tokens-{number:05d}.bin"


def read_corpus(folder: Path) -> Manifest:
    """Read and check the description in ``folder``. Raise InputError naming file and field."""
    path = folder / NAME
    if not is_there(folder, NAME):
        raise InputError(folder, f"holds no prepared data (no {NAME})", "make it with `lamoid prepare`")
    data = read_inside(folder, NAME, limit=LARGEST)
    try:
        manifest = msgspec.convert(parse_json(data, file=path), Manifest)
    except msgspec.ValidationError as error:
        raise InputError(path, f"cannot be read: {error}", CURE) from error
    except InputError as error:
        raise InputError(error.culprit, error.problem, CURE) from error
    if manifest.format != FORMAT:
        raise InputError(f"{path}: format", f"{manifest.format} is not {FORMAT}", CURE)
    if manifest.width not in (2, 4) or not 0 < manifest.vocab <= 256**manifest.width:
        raise InputError(f"{path}: width", f"{manifest.width} bytes do not fit {manifest.vocab} tokens", CURE)
    if manifest.documents < 1 or manifest.tokens < 1:
        raise InputError(f"{path}: tokens", "there is no document", CURE)
    for number, shard in enumerate(manifest.shards):
        if shard.file != shard_name(number) or shard.tokens < 1:
            raise InputError(f"{path}: shards[{number}]", f"{shard.file[:80]!r} is not {shard_name(number)}", CURE)
    if sum(shard.tokens for shard in manifest.shards) != manifest.tokens:
        raise InputError(f"{path}: tokens", "is not the sum over the shards", CURE)
    return manifest
