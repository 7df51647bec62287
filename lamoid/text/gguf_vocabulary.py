"""A tokenizer as llama.cpp knows it: the tokens, what each of them is, and which of its two algorithms reads text.

Source: conversion/base.py and src/llama-vocab.cpp of https://github.com/ggml-org/llama.cpp. What its algorithms would
read otherwise than the tokenizer does is refused, or said in the remarks where its own converter lets it pass.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from lamoid.errors import InputError
from lamoid.text.chat import find_template
from lamoid.text.checking import parse_object
from lamoid.text.gguf_byte_pairs import byte_pair_parts
from lamoid.text.gguf_sentencepiece import sentencepiece_parts
from lamoid.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
OTHER = "Train the model with a byte-level tokenizer of GPT-2's, Llama 3's or Qwen's kind, or with a sentencepiece one"
_UNUSED_SCORE, _ADDED_SCORE = -10000.0, -1000.0
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer; ``scores`` are sentencepiece's, ``merges`` those of byte pairs.

    ``types`` are llama.cpp's numbers. ``adds_space`` tells whether a space is put before a text, None where that is
    never so.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None
    merges: list[str] | None
    start: int | None
    end: int | None
    pad: int | None
    unknown: int | None
    adds_start: bool
    adds_end: bool
    adds_space: bool | None
    template: str | None
    remarks: tuple[str, ...]


def vocabulary_of(tokenizer: Tokenizer, size: int) -> Vocabulary:
    """Give the vocabulary of a model of ``size`` tokens. Raise InputError for a tokenizer that llama.cpp lacks."""
    document = parse_object(tokenizer.files()["tokenizer.json"], tokenizer.name)
    model = document["model"]
    if tokenizer.vocab > size:
        problem = f"has {tokenizer.vocab} tokens, the model knows {size}"
        raise InputError(tokenizer.name, problem, "Use the tokenizer that the model was trained with")
    if model.get("type", "BPE") != "BPE" or model.get("dropout"):
        kind = "BPE with dropout" if model.get("dropout") else model.get("type")
        raise InputError(f"{tokenizer.name}: model.type", f"{kind} is not read by llama.cpp's LLaMA", OTHER)
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise InputError(f"{tokenizer.name}: model", "its pieces carry a prefix or suffix of words", OTHER)
    adds_start, adds_end = _affixes(tokenizer)
    template = find_template(tokenizer)
    begun = Vocabulary(
        model="gpt2",
        pre="",
        tokens=[],
        types=[],
        scores=None,
        merges=None,
        start=tokenizer.start,
        end=tokenizer.end,
        pad=tokenizer.pad,
        unknown=_unknown(document),
        adds_start=adds_start,
        adds_end=adds_end,
        adds_space=None,
        template=None if template is None else template[0],
        remarks=(),
    )
    if tokenizer.byte_level:
        pre, merges, remarks = byte_pair_parts(document, tokenizer.name)
        tokens, types, _ = _tokens(tokenizer, document, size, {})
        return replace(begun, pre=pre, tokens=tokens, types=types, merges=merges, remarks=remarks)
    parts = sentencepiece_parts(document, tokenizer.name)
    tokens, types, scores = _tokens(tokenizer, document, size, parts.scores)
    tokens = [parts.written.get(token, token) for token in tokens]
    found = replace(begun, model="llama", pre="default", tokens=tokens, types=types, scores=scores)
    return replace(found, adds_space=parts.adds_space, remarks=parts.remarks)


def _tokens(
    tokenizer: Tokenizer, document: dict[str, Any], size: int, scores: dict[str, float]
) -> tuple[list[str], list[int], list[float]]:
    """Give every id's text, type and score; ids beyond the tokenizer's are unused."""
    plain = {token["content"] for token in document.get("added_tokens") or () if not token.get("special")}
    unknown, has_bytes = _unknown(document), not tokenizer.byte_level
    tokens, types, found = [], [], []
    for number, piece in enumerate([*tokenizer.pieces(), *[None] * (size - tokenizer.vocab)]):
        score = _ADDED_SCORE
        if piece is None:
            piece, kind, score = f"[PAD{number}]", UNUSED, _UNUSED_SCORE
        elif number == unknown:
            kind = UNKNOWN
        elif number in tokenizer.controls or (piece in plain and _LOOKS_SPECIAL.fullmatch(piece)):
            kind = CONTROL
        elif piece in plain:
            piece, kind = piece.replace("\u2581", " "), USER_DEFINED
        elif has_bytes and re.fullmatch("<0x[0-9A-F]{2}>", piece):
            kind = BYTE
        else:
            kind, score = NORMAL, scores.get(piece, _ADDED_SCORE)
        tokens.append(piece)
        types.append(kind)
        found.append(score)
    return tokens, types, found


def _unknown(document: dict[str, Any]) -> int | None:
    token = document["model"].get("unk_token")
    added = {entry["content"]: entry["id"] for entry in document.get("added_tokens") or ()}
    return None if token is None else document["model"]["vocab"].get(token, added.get(token))


def _affixes(tokenizer: Tokenizer) -> tuple[bool, bool]:
    """Tell whether the template puts the start before a text and the end behind it; refuse any other template."""
    before, behind = tokenizer.around
    fits = before in ((), (tokenizer.start,)) and behind in ((), (tokenizer.end,))
    if not fits:
        problem = f"its template puts the tokens {list(before)} before a text and {list(behind)} behind it"
        cure = "llama.cpp can put the start token before and the end token behind: give it such a template"
        raise InputError(f"{tokenizer.name}: post_processor", problem, cure)
    return bool(before), bool(behind)
