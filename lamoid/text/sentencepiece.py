"""A sentencepiece model (unigram or byte pairs) as a tokenizer.json that gives the same ids."""

import re
from itertools import pairwise
from typing import Any

from lamoid.errors import InputError
from lamoid.text.charsmap import charsmap_normalizers
from lamoid.text.document import SETTINGS, added_token, byte_pair_model, document, in_turn, template
from lamoid.text.sentencepiece_model import (
    BPE,
    BYTE,
    KINDS,
    NORMAL,
    UNIGRAM,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    parse_model,
)

SPACE = "\u2581"
SENTINELS = 100
MOST_SENTINELS = 10_000
INSTEAD = "bring the tokenizer.json of this model instead"


def sentencepiece_document(
    data: bytes, name: object, beside: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the tokenizer.json and tokenizer_config.json that mean the same as a sentencepiece model.

    A model with a start piece puts it before a prompt, as Llama does; one with an end piece and no start piece is
    T5's: the end is put behind, and 100 sentinels follow the vocabulary, ``<extra_id_99>`` first. ``beside`` is a
    tokenizer_config.json whose ``add_bos_token``, ``add_eos_token`` and ``extra_ids`` count. Raise InputError naming
    the file and the piece or field.
    """
    beside = beside or {}
    model = parse_model(data, name)
    _check_support(model, name, beside)
    ids = {piece.text: number for number, piece in enumerate(model.pieces)}
    named = {role: content for role in ("bos", "eos", "pad") if (content := model.control(role)) is not None}
    sentinels = _sentinels(model, named, beside, f"{name}: tokenizer_config.json: extra_ids")
    settings = model.training
    words = not any(SPACE in piece.text[1:] for piece in model.pieces if piece.kind == NORMAL)
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}
    guards = _guards(model) if settings["model_type"] == UNIGRAM else []
    added = [
        added_token(piece.text, number, special=piece.kind != USER_DEFINED, normalized=piece.kind == USER_DEFINED)
        for number, piece in enumerate(model.pieces)
        if piece.kind not in (NORMAL, BYTE)
    ]
    added += [added_token(content, len(model.pieces) + k) for k, content in enumerate(sentinels)]
    made = document(
        added_tokens=added,
        normalizer=in_turn(_normalizers(model, str(name)), "normalizers"),
        pre_tokenizer=in_turn([*([metaspace] if words else []), *guards], "pretokenizers"),
        post_processor=_template(named, ids, beside, str(name)),
        decoder=_decoder(model),
        model=_unigram(model) if settings["model_type"] == UNIGRAM else _byte_pairs(model, ids),
    )
    roles = {f"{role}_token": content for role, content in named.items()}
    more = {"additional_special_tokens": list(reversed(sentinels))} if sentinels else {}
    return made, {**SETTINGS, **roles, "unk_token": model.pieces[model.unknown].text, **more}


def _check_support(model: SentencePieceModel, name: object, beside: dict[str, Any]) -> None:
    kind = model.training["model_type"]
    if kind not in (UNIGRAM, BPE):
        raise InputError(name, f"a {KINDS.get(kind, kind)} model; unigram and BPE are read", INSTEAD)
    if model.training["treat_whitespace_as_suffix"] or not model.normalizer["escape_whitespaces"]:
        raise InputError(name, "its spaces stand behind words or are kept as they are, which is not read", INSTEAD)
    if model.denormalizer["precompiled_charsmap"]:
        raise InputError(name, "it has a table for decoding, which is not read", INSTEAD)
    for number, piece in enumerate(model.pieces):
        if piece.kind == UNUSED:
            raise InputError(f"{name}: piece {number}", f"{piece.text[:80]!r} is marked unused, not read", INSTEAD)
    foreign = beside.get("tokenizer_class")
    if foreign is not None and foreign not in _CLASSES:
        problem = f"{str(foreign)[:80]!r} does more to text than the .model file beside it says"
        raise InputError(f"{name}: tokenizer_config.json: tokenizer_class", problem, INSTEAD)


def _sentinels(model: SentencePieceModel, named: dict[str, str], beside: dict[str, Any], where: str) -> list[str]:
    has_own = any("<extra_id_" in piece.text for piece in model.pieces)
    count = beside.get("extra_ids", SENTINELS if named.keys() == {"eos", "pad"} and not has_own else 0)
    if type(count) is not int or not 0 <= count <= MOST_SENTINELS:
        raise InputError(where, f"{str(count)[:80]} is not a whole number from 0 to {MOST_SENTINELS}", "mend it")
    return [] if has_own else [f"<extra_id_{k}>" for k in reversed(range(count))]


def _normalizers(model: SentencePieceModel, name: str) -> list[dict[str, Any]]:
    """Give sentencepiece's normalization: the table, spaces that are too many, the space before, the mark of spaces."""
    rule = model.normalizer
    symbols = [piece.text for piece in model.pieces if piece.kind == USER_DEFINED]
    where = f"{name}: normalizer_spec.precompiled_charsmap"
    parts = charsmap_normalizers(rule["precompiled_charsmap"], where, symbols)
    if rule["remove_extra_whitespaces"]:
        # A run is entered only where it begins; else a long one in the middle costs time by its square.
        behind = rf"(?<![ {SPACE}])[ {SPACE}]++\z"
        parts += [_replace({"Regex": found}, kept) for found, kept in ((" {2,}", " "), (behind, ""), (r"\A +", ""))]
    if rule["add_dummy_prefix"] and symbols:
        # The library normalizes them too, each alone: they must stay what they are.
        found = rf"\A(?!(?:{'|'.join(map(re.escape, symbols))})\z)"
        parts.append(_replace({"Regex": found}, SPACE))
    elif rule["add_dummy_prefix"]:
        # Behind the trimming, else before the table: a text that the table deletes keeps the mark only in the latter.
        place = len(parts) if rule["remove_extra_whitespaces"] else 0
        parts.insert(place, {"type": "Prepend", "prepend": SPACE})
    return [*parts, _replace({"String": " "}, SPACE)]


def _guards(model: SentencePieceModel) -> list[dict[str, Any]]:
    """Give a cut inside every control and byte piece, so that the unigram model cannot find it in plain text.

    The cut is between two neighbouring characters that no ordinary piece has, so it changes nothing else.
    """
    ordinary = [piece.text for piece in model.pieces if piece.kind == NORMAL]
    neighbours = {pair for text in ordinary for pair in pairwise(text)}
    known = {text for text in ordinary if len(text) == 1}
    cuts: dict[str, None] = {}
    for piece in model.pieces:
        if piece.kind in (NORMAL, USER_DEFINED):
            continue
        free = [pair for pair in pairwise(piece.text) if pair not in neighbours]
        # Two unknown characters in a row are one unknown token, which a cut would make two.
        free.sort(key=lambda pair: known.isdisjoint(pair))
        if free:
            cuts[f"(?<={re.escape(free[0][0])})(?={re.escape(free[0][1])})"] = None
    if not cuts:
        return []
    return [{"type": "Split", "pattern": {"Regex": "|".join(cuts)}, "behavior": "Isolated", "invert": False}]


def _unigram(model: SentencePieceModel) -> dict[str, Any]:
    highest = max((piece.score for piece in model.pieces if piece.kind == NORMAL), default=0.0)
    # The score of the unknown lies below the lowest of all, which in sentencepiece are only the ordinary pieces.
    scores = [[piece.text, piece.score if piece.kind == NORMAL else highest] for piece in model.pieces]
    fallback = model.training["byte_fallback"]
    return {"type": "Unigram", "unk_id": model.unknown, "vocab": scores, "byte_fallback": fallback}


def _byte_pairs(model: SentencePieceModel, ids: dict[str, int]) -> dict[str, Any]:
    """Give a BPE model whose merges are all ways to put a piece together from two, the best score first."""
    ordinary = {piece.text: piece.score for piece in model.pieces if piece.kind == NORMAL}
    found: list[tuple[float, int, str, str]] = []
    for text, score in ordinary.items():
        for cut in range(1, len(text)):
            if text[:cut] in ordinary and text[cut:] in ordinary:
                found.append((-score, -cut, text[:cut], text[cut:]))
    found.sort(key=lambda merge: merge[:2])
    unknown, fallback = model.pieces[model.unknown].text, model.training["byte_fallback"]
    merges = [merge[2:] for merge in found]
    return byte_pair_model(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=fallback)


def _decoder(model: SentencePieceModel) -> dict[str, Any] | None:
    parts: list[dict[str, Any]] = [_replace({"String": SPACE}, " ")]
    if model.training["byte_fallback"]:
        parts.append({"type": "ByteFallback"})
    parts.append({"type": "Fuse"})
    if model.normalizer["add_dummy_prefix"]:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return in_turn(parts, "decoders")


def _template(named: dict[str, str], ids: dict[str, int], beside: dict[str, Any], name: str) -> dict[str, Any] | None:
    adds = {"bos": beside.get("add_bos_token"), "eos": beside.get("add_eos_token")}
    for role, value in adds.items():
        if value is not None and not isinstance(value, bool):
            where = f"{name}: tokenizer_config.json: add_{role}_token"
            raise InputError(where, f"{str(value)[:80]!r} is neither true nor false", "mend the setting")
    usual = {"bos": True, "eos": "bos" not in named}
    used = {r: named[r] for r in adds if r in named and (usual[r] if adds[r] is None else adds[r])}
    if not used:
        return None
    start, end = used.get("bos", ""), used.get("eos", "")
    second = (f"{start}:1" if start else "", f"{end}:1" if end else "") if start else ("", end)
    kind = "B:1" if start else "B"
    pair = f"{start} A {end} {second[0]} {kind} {second[1]}"
    return template(f"{start} A {end}", pair, {token: ids[token] for token in used.values()})


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


_CLASSES = (
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "T5Tokenizer",
    "T5TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)
