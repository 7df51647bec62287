"""What a tokenizer.json must look like before the library is let near it."""

from typing import Any

from lamoid.errors import InputError
from lamoid.strict_json import parse_json

MOST_ADDED_TOKENS = 100_000
MOST_ITEMS = 16 * 10**6  # half a million merges, each a list of two texts, take almost 4 million
MOST_PIECES = 2**19  # in a vocabulary that is converted; the largest of a known model has 262 145
MOST_PIECE_BYTES = 512  # time grows with the square of a piece's length; Llama 3's longest has 128
LARGEST_VOCABULARY = 16 * 2**20  # bytes; Gemma's .model has 4.7 million
CURE = "make the tokenizer anew with `lamoid tokenizer`, or fetch the file again"


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Parse one JSON object as strictly as every other file is parsed. Raise InputError naming the file."""
    found = parse_json(data, file=name, items=MOST_ITEMS)
    if not isinstance(found, dict):
        raise InputError(name, f"must hold a JSON object, not a {type(found).__name__}", CURE)
    return found


def check_tokenizer(document: dict[str, Any], name: str) -> None:
    """Check the vocabulary and the added tokens of a parsed tokenizer.json. Raise InputError naming the field."""
    model = document.get("model")
    if not isinstance(model, dict):
        raise InputError(f"{name}: model", "is missing or no JSON object", CURE)
    ids = _vocabulary_ids(model.get("vocab"), name)
    added = document.get("added_tokens")
    if added is None:
        added = []
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS:
        raise InputError(f"{name}: added_tokens", f"must be a list of at most {MOST_ADDED_TOKENS} tokens", CURE)
    contents: set[str] = set()
    added_ids: set[int] = set()
    for k, token in enumerate(added):
        where = f"{name}: added_tokens[{k}]"
        content, number = _added_token(token, where)
        if content in contents or number in added_ids:
            raise InputError(where, f"{content[:80]!r} or its id {number} stands there twice", CURE)
        contents.add(content)
        added_ids.add(number)
    if not ids and not added_ids:
        raise InputError(f"{name}: model.vocab", "is empty", CURE)
    _check_range(ids | added_ids, name)


def _vocabulary_ids(vocabulary: Any, name: str) -> set[int]:
    where = f"{name}: model.vocab"
    if isinstance(vocabulary, list):
        for k, entry in enumerate(vocabulary):
            if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
                raise InputError(f"{where}[{k}]", "must be a pair of piece and score", CURE)
        return set(range(len(vocabulary)))
    if not isinstance(vocabulary, dict):
        raise InputError(where, "is missing or neither an object nor a list", CURE)
    ids: dict[int, str] = {}
    for token, number in vocabulary.items():
        if type(number) is not int or number < 0:
            raise InputError(f"{where}: {token[:80]!r}", f"id {str(number)[:40]} is not a whole number from 0", CURE)
        if number in ids:
            raise InputError(f"{where}: {token[:80]!r}", f"id {number} belongs to {ids[number][:80]!r} already", CURE)
        ids[number] = token
    return set(ids)


def _added_token(token: Any, where: str) -> tuple[str, int]:
    if not isinstance(token, dict):
        raise InputError(where, "must be a JSON object", CURE)
    content, number = token.get("content"), token.get("id")
    if not isinstance(content, str) or not content:
        raise InputError(f"{where}.content", "must be a text that is not empty", CURE)
    if type(number) is not int or number < 0:
        raise InputError(f"{where}.id", f"{str(number)[:40]} is not a whole number from 0", CURE)
    return content, number


def _check_range(ids: set[int], name: str) -> None:
    """Refuse ids far beyond the number of tokens: every id costs a row of the embedding."""
    highest, limit = max(ids), 2 * len(ids) + 1024
    if highest >= limit:
        raise InputError(
            f"{name}: model.vocab", f"the id {highest} is too high for {len(ids)} tokens (limit {limit})", CURE
        )
