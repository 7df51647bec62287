"""A new tokenizer from text: byte-level pairs, or one token a character."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer, library_guard

END = "<|endoftext|>"
LARGEST_VOCAB = 2**20


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: Literal["bytes", "characters"] = "bytes",
    vocab: int = 4096,
    closed: bool = False,
) -> Tokenizer:
    """Learn a tokenizer of at most ``vocab`` tokens from ``texts``; any text comes back from its ids unchanged.

    ``bytes`` learns byte pairs (BPE). ``characters`` has one token a character, the rarest left to single bytes where
    ``vocab`` is too small; ``closed=True`` leaves the bytes out, so that other characters are an InputError later.
    Token 0 is the one control token, ``<|endoftext|>``, which both opens and closes a document.
    """
    if kind not in ("bytes", "characters"):
        raise InputError("kind", f"{kind!r} is not known", "choose bytes or characters")
    least = 2 if closed else 257
    if not least <= vocab <= LARGEST_VOCAB:
        raise InputError("vocab", f"{vocab} is not from {least} to {LARGEST_VOCAB}", "choose a number between them")
    if closed and kind == "bytes":
        raise InputError("closed", "a vocabulary of bytes holds every text", "use closed with kind characters")
    checked = _checked(texts)
    library = _byte_pairs(checked, vocab) if kind == "bytes" else _characters(checked, vocab, closed)
    library.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, 0)]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
    }
    return Tokenizer(
        {"tokenizer.json": library.to_str().encode(), "tokenizer_config.json": json.dumps(config, indent=2).encode()}
    )


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Pass the texts on; refuse half surrogate pairs, and a corpus without any text."""
    characters = 0
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                "text", f"character {error.start} is half a surrogate pair", "give valid Unicode"
            ) from error
        characters += len(text)
        yield text
    if characters == 0:
        raise InputError("texts", "hold no character to learn from", "name files with text in them")


def _byte_pairs(texts: Iterator[str], vocab: int) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    library.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with library_guard("texts", "learning byte pairs", "check the texts"):
        library.train_from_iterator(texts, trainer)
    return library


def _characters(texts: Iterator[str], vocab: int, closed: bool) -> tokenizers.Tokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    fixed = [END] if closed else [END, *(f"<0x{b:02X}>" for b in range(256))]
    if closed and len(fixed) + len(counts) > vocab:
        raise InputError(
            "vocab", f"{vocab} is too small for {len(counts)} characters", f"take {len(counts) + 1} or more"
        )
    ranked = sorted(counts, key=lambda c: (-counts[c], c))[: vocab - len(fixed)]
    ids = {token: number for number, token in enumerate([*fixed, *sorted(ranked)])}
    library = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=[], byte_fallback=not closed))
    parts = [decoders.Fuse()] if closed else [decoders.ByteFallback(), decoders.Fuse()]
    library.decoder = decoders.Sequence(parts)  # pyright: ignore[reportAttributeAccessIssue]
    library.add_special_tokens([END])
    return library
