"""GPT-2's two tokenizer files (vocabulary and merges) as one tokenizer.json."""

import json
from pathlib import Path
from typing import Any

from lamoid.errors import InputError
from lamoid.text.checking import parse_object

END = "<|endoftext|>"
CURE = "fetch the two files again (encoder.json with vocab.bpe, or vocab.json with merges.txt)"


def gpt2_files(vocabulary: bytes, merges: bytes, name: Path) -> dict[str, bytes]:
    """Give the tokenizer.json and tokenizer_config.json that mean the same as GPT-2's two files."""
    ids = parse_object(vocabulary, f"{name} (vocabulary)")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_control(END, ids[END])] if END in ids else [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": _merges(merges, name),
        },
    }
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if END in ids:
        config |= {"bos_token": END, "eos_token": END}
    return {
        "tokenizer.json": json.dumps(document, ensure_ascii=False).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode() + b"\n",
    }


def _control(content: str, number: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": True}


def _merges(data: bytes, name: Path) -> list[list[str]]:
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} (merges)", f"is not UTF-8 at byte {error.start}", CURE) from error
    merges: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise InputError(f"{name} (merges)", f"line {number} is not a pair of pieces: {line[:80]!r}", CURE)
        merges.append(pair)
    return merges
