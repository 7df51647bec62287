"""The parts of a tokenizer.json that the readers of other formats build, and the settings saved beside it."""

from collections.abc import Sequence
from typing import Any

SETTINGS: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}


def document(**parts: Any) -> dict[str, Any]:
    """Give a whole tokenizer.json from its parts; those not named are absent."""
    names = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
    empty: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, **dict.fromkeys(names)}
    return {**empty, "added_tokens": [], **parts}


def added_token(content: str, number: int, *, special: bool = True, normalized: bool = False) -> dict[str, Any]:
    """Give one entry of added_tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized, "special": special}
    return {"id": number, "content": content, **flags}


def byte_pair_model(vocabulary: dict[str, int], merges: Sequence[Sequence[str]], **settings: Any) -> dict[str, Any]:
    """Give a BPE model; ``settings`` are those of the library that differ from its plainest form."""
    plain = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    flags = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {"type": "BPE", **plain, **flags, **settings, "vocab": vocabulary, "merges": [list(m) for m in merges]}


def in_turn(parts: Sequence[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """Give one part that applies ``parts`` in turn, None for none; ``kind`` names the list in tokenizer.json."""
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else {"type": "Sequence", kind: list(parts)}


def template(single: str, pair: str, ids: dict[str, int]) -> dict[str, Any]:
    """Give a template from its short forms, such as ``[CLS] A [SEP]`` and ``[CLS] A [SEP] B:1 [SEP]:1``."""

    def pieces(text: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for part in text.split():
            name, _, number = part.partition(":")
            key = "Sequence" if name in ("A", "B") else "SpecialToken"
            found.append({key: {"id": name, "type_id": int(number or 0)}})
        return found

    special = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in ids.items()}
    return {"type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair), "special_tokens": special}
