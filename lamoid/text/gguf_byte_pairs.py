"""Byte-level byte pairs as llama.cpp reads them: the merges, and its name for how text is cut into words."""

from typing import Any

import tokenizers

from lamoid.errors import InputError
from lamoid.text.tokenizer import library_guard

OTHER = "Train the model with GPT-2's, Llama 3's or Qwen's way of cutting words (`lamoid tokenizer` has GPT-2's)"
_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BEHIND = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN_2 = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_BEHIND}"
_LLAMA_3 = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_BEHIND}"
_DIGITS = ("digits", _GPT_2)


def byte_pair_parts(document: dict[str, Any], name: str) -> tuple[str, list[str], tuple[str, ...]]:
    """Give llama.cpp's name for the pre-tokenizer, the merges, and remarks.

    Raise InputError for a way of cutting text that it has no name for.
    """
    remarks = _normalizer(document, name)
    cut = _cut(document, name)
    takes_whole = bool(document["model"].get("ignore_merges"))
    pre = _NAMES.get((cut, takes_whole))
    if pre is None and (cut, not takes_whole) in _NAMES and _is_same_either_way(document, name):
        pre = _NAMES[cut, not takes_whole]
    if pre is None:
        what = "its words that are tokens are taken whole or not, unlike there, or it" if cut in _CUTS else "it"
        problem = f"{what} cuts text in a way that llama.cpp has no name for"
        raise InputError(f"{name}: pre_tokenizer", problem, OTHER)
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in document["model"].get("merges", ())]
    if any(len(merge) != 2 or " " in merge[0] or " " in merge[1] for merge in merges):
        raise InputError(f"{name}: model.merges", "a merge holds a space, which no byte's stand-in is", OTHER)
    return pre, [" ".join(merge) for merge in merges], remarks


def _normalizer(document: dict[str, Any], name: str) -> tuple[str, ...]:
    normalizer = document.get("normalizer")
    if normalizer is None:
        return ()
    if normalizer.get("type") == "NFC":
        return ("the tokenizer composes characters (NFC), which llama.cpp does not: give it composed text",)
    raise InputError(f"{name}: normalizer", f"{str(normalizer.get('type'))[:40]} is not done by llama.cpp", OTHER)


def _cut(document: dict[str, Any], name: str) -> tuple[str, ...]:
    """Give the expressions that cut words, in turn."""
    part = document.get("pre_tokenizer") or {}
    parts = part.get("pretokenizers", []) if part.get("type") == "Sequence" else [part]
    found: list[str] = []
    for part in parts:
        kind = part.get("type")
        if kind == "Digits" and part.get("individual_digits"):
            found.append("digits")
        elif kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
            pattern = part.get("pattern") or {}
            found.append(str(pattern.get("Regex", pattern)))
        elif kind == "ByteLevel":
            if part.get("add_prefix_space"):
                problem = "it puts a space before a text, which llama.cpp's byte pairs never do"
                raise InputError(f"{name}: pre_tokenizer.add_prefix_space", problem, "Set it to false and train anew")
            found += [_GPT_2] if part.get("use_regex", True) else []
        else:
            raise InputError(f"{name}: pre_tokenizer", f"{str(kind)[:40]} is not known to llama.cpp", OTHER)
    return tuple(found)


def _is_same_either_way(document: dict[str, Any], name: str) -> bool:
    """Tell whether the merges alone make every token of its own text, so that taking it whole changes nothing."""
    model = document["model"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    with library_guard(name, "reading the merges"):
        plain = tokenizers.models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=False)
        added = {token["content"] for token in document.get("added_tokens") or ()}
        return all(len(plain.tokenize(piece)) == 1 for piece in model["vocab"] if piece not in added)


_NAMES = {
    ((_GPT_2,), False): "gpt-2",
    (_DIGITS, False): "smollm",
    ((_QWEN_2,), False): "qwen2",
    ((_LLAMA_3,), True): "llama-bpe",
    ((_LLAMA_3,), False): "dbrx",
}
"""By the expressions and whether a word that is a token is taken whole."""
_CUTS = {cut for cut, _ in _NAMES}
