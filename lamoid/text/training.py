"""A new tokenizer from text: byte-level pairs, or one token a character."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer, library_guard

END, FIRST, SEPARATOR = "<|endoftext|>", "[CLS]", "[SEP]"
MOST_SENTINELS = 1000
LARGEST_VOCAB = 2**20


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: Literal["bytes", "characters"] = "bytes",
    vocab: int = 4096,
    closed: bool = False,
    mask: bool = False,
    sentinels: int = 0,
) -> Tokenizer:
    """Learn a tokenizer of at most ``vocab`` tokens from ``texts``; any text comes back from its ids unchanged.

    ``bytes`` learns byte pairs (BPE). ``characters`` has one token a character, the rarest left to single bytes where
    ``vocab`` is too small; ``closed=True`` leaves the bytes out, so that other characters are an InputError later.
    Token 0 is the one control token, ``<|endoftext|>``, which both opens and closes a document. With ``mask`` it has
    BERT's instead, ``[PAD]``, ``[CLS]``, ``[SEP]`` and ``[MASK]``, and puts the second before a text and the third
    behind it. With ``sentinels`` it has so many of ``<extra_id_0>`` and on, the first of the highest id, and without
    ``mask`` T5's ``<pad>`` and ``</s>``. Control tokens come first, and count in ``vocab``.
    """
    controls = _controls(mask, sentinels)
    if kind not in ("bytes", "characters"):
        raise InputError("kind", f"{kind!r} is not known", "choose bytes or characters")
    least = len(controls.tokens) + (1 if closed else 256)
    if not least <= vocab <= LARGEST_VOCAB:
        raise InputError("vocab", f"{vocab} is not from {least} to {LARGEST_VOCAB}", "choose a number between them")
    if closed and kind == "bytes":
        raise InputError("closed", "a vocabulary of bytes holds every text", "use closed with kind characters")
    checked = _checked(texts)
    tokens = controls.tokens
    library = _byte_pairs(checked, vocab, tokens) if kind == "bytes" else _characters(checked, vocab, closed, tokens)
    library.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=controls.single,
        pair=controls.pair,
        special_tokens=[(token, number) for number, token in enumerate(tokens)],
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **controls.roles,
        "clean_up_tokenization_spaces": False,
    }
    return Tokenizer(
        {"tokenizer.json": library.to_str().encode(), "tokenizer_config.json": json.dumps(config, indent=2).encode()}
    )


@dataclass(frozen=True)
class _Controls:
    """The control tokens of a new tokenizer, in order; its templates for a text and for two; what plays which part."""

    tokens: tuple[str, ...]
    single: str
    pair: str
    roles: dict[str, str]


def _controls(mask: bool, sentinels: int) -> _Controls:
    if not 0 <= sentinels <= MOST_SENTINELS:
        raise InputError("sentinels", f"{sentinels} is not from 0 to {MOST_SENTINELS}", "choose a number between them")
    marks = tuple(f"<extra_id_{number}>" for number in reversed(range(sentinels)))
    if mask:
        first, second = f"{FIRST} $A {SEPARATOR}", f"{FIRST} $A {SEPARATOR} $B:1 {SEPARATOR}:1"
        roles = {"pad_token": "[PAD]", "cls_token": FIRST, "sep_token": SEPARATOR, "mask_token": "[MASK]"}
        ends = {"bos_token": FIRST, "eos_token": SEPARATOR}
        return _Controls(("[PAD]", FIRST, SEPARATOR, "[MASK]", *marks), first, second, {**ends, **roles})
    if sentinels:
        roles = {"eos_token": "</s>", "pad_token": "<pad>"}
        return _Controls(("<pad>", "</s>", *marks), "$A </s>", "$A </s> $B </s>", roles)
    return _Controls((END,), f"{END} $A", f"{END} $A {END} $B", {"bos_token": END, "eos_token": END})


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


def _byte_pairs(texts: Iterator[str], vocab: int, controls: tuple[str, ...]) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    library.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(controls),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with library_guard("texts", "learning byte pairs", "check the texts"):
        library.train_from_iterator(texts, trainer)
    return library


def _characters(texts: Iterator[str], vocab: int, closed: bool, controls: tuple[str, ...]) -> tokenizers.Tokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    fixed = [*controls] if closed else [*controls, *(f"<0x{b:02X}>" for b in range(256))]
    if closed and len(fixed) + len(counts) > vocab:
        raise InputError(
            "vocab", f"{vocab} is too small for {len(counts)} characters", f"take {len(counts) + len(fixed)} or more"
        )
    ranked = sorted(counts, key=lambda c: (-counts[c], c))[: vocab - len(fixed)]
    ids = {token: number for number, token in enumerate([*fixed, *sorted(ranked)])}
    library = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=[], byte_fallback=not closed))
    parts = [decoders.Fuse()] if closed else [decoders.ByteFallback(), decoders.Fuse()]
    library.decoder = decoders.Sequence(parts)  # pyright: ignore[reportAttributeAccessIssue]
    library.add_special_tokens(list(controls))
    return library
