"""tiktoken's rank files (a base64 token, a space and its rank on each line) as a tokenizer.json.

The file tells neither the expression that cuts text into words nor the control tokens; both follow from which file it
is, and that from the number of its ranks: 50 256 are GPT-2's, 128 000 Llama 3's. Any other number is refused, unless
``tiktoken_document`` is called with a plan of one's own.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from lamoid.errors import InputError
from lamoid.text.checking import MOST_PIECE_BYTES, MOST_PIECES
from lamoid.text.document import SETTINGS, added_token, byte_pair_model, document, template
from lamoid.text.streaming import BYTE_NAMES

CURE = "fetch the rank file again"
LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} [0-9]{1,9}\r?\Z")


@dataclass(frozen=True)
class RankPlan:
    """What a rank file leaves out: the words' expression, the control tokens, and those that open and close."""

    pattern: str
    controls: tuple[str, ...]
    start: str
    end: str
    adds_start: bool
    whole_words: bool
    """Whether a word that is a token is taken whole, as tiktoken does; GPT-2's merges come to the same."""


def is_rank_file(data: bytes) -> bool:
    """Tell whether the first line is one of a rank file."""
    return LINE.match(data.split(b"\n", 1)[0][: 2 * MOST_PIECE_BYTES]) is not None


def tiktoken_document(data: bytes, name: object, plan: RankPlan | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the tokenizer.json and tokenizer_config.json that mean the same as a rank file.

    ``plan`` is by default that of the known file with as many ranks. Raise InputError naming file and line.
    """
    ranks = _ranks(data, name)
    plan = plan or _PLANS.get(len(ranks))
    if plan is None:
        known = " and ".join(f"{number} ({title})" for number, title in _TITLES.items())
        raise InputError(name, f"{len(ranks)} ranks, and files are known of {known}", "bring a tokenizer.json instead")
    vocabulary = {"".join(BYTE_NAMES[b] for b in token): rank for token, rank in ranks.items()}
    controls = {content: len(ranks) + k for k, content in enumerate(plan.controls)}
    for content in controls:
        if content in vocabulary:
            raise InputError(name, f"its token {vocabulary[content]} is {content!r}, a control token's name", CURE)
    split = {"type": "Split", "pattern": {"Regex": plan.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    opening = template(f"{plan.start} A", f"{plan.start} A {plan.start}:1 B:1", {plan.start: controls[plan.start]})
    made = document(
        added_tokens=[added_token(content, number) for content, number in controls.items()],
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]},
        post_processor=opening if plan.adds_start else {**byte_level, "trim_offsets": False},
        decoder=byte_level,
        model=byte_pair_model(vocabulary, _merges(ranks), ignore_merges=plan.whole_words),
    )
    return made, {**SETTINGS, "bos_token": plan.start, "eos_token": plan.end}


def _ranks(data: bytes, name: object) -> dict[bytes, int]:
    lines = data.removesuffix(b"\n").split(b"\n")
    if len(lines) > MOST_PIECES:
        raise InputError(name, f"{len(lines)} lines, the limit is {MOST_PIECES}", CURE)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        where = f"{name}: line {number}"
        if len(line) > 2 * MOST_PIECE_BYTES or not LINE.match(line):
            raise InputError(where, f"is no base64 token and rank: {line[:80]!r}", CURE)
        text, rank = line.split()
        try:
            token = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise InputError(where, f"{text[:80]!r} is no base64 ({error})", CURE) from None
        if not 0 < len(token) <= MOST_PIECE_BYTES:
            raise InputError(where, f"a token of {len(token)} bytes, not 1 to {MOST_PIECE_BYTES}", CURE)
        if token in ranks:
            raise InputError(where, f"the token {token[:40]!r} has rank {ranks[token]} already", CURE)
        if int(rank) != number - 1:
            raise InputError(where, f"rank {int(rank)}, where {number - 1} is due", CURE)
        ranks[token] = number - 1
    for byte in range(256):
        if bytes([byte]) not in ranks:
            raise InputError(name, f"has no token for the byte 0x{byte:02X}", CURE)
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """Give every way to put a token together from two others, the lowest rank first, as tiktoken merges."""
    merges: list[tuple[str, str]] = []
    for token in ranks:
        text = "".join(BYTE_NAMES[b] for b in token)
        for cut in range(1, len(token)):
            if token[:cut] in ranks and token[cut:] in ranks:
                merges.append((text[:cut], text[cut:]))
    return merges


def _llama_3_controls() -> tuple[str, ...]:
    """Give Llama 3.1's names; in 3.0 some of the unused have other numbers, and those in use the same ids."""
    named = {0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id", 7: "end_header_id"}
    named |= {8: "eom_id", 9: "eot_id", 10: "python_tag"}
    reserved = (k for k in range(256))
    return tuple(f"<|{named.get(k) or f'reserved_special_token_{next(reserved)}'}|>" for k in range(256))


_GPT_2 = RankPlan(
    pattern=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    controls=("<|endoftext|>",),
    start="<|endoftext|>",
    end="<|endoftext|>",
    adds_start=False,
    whole_words=True,
)
_LLAMA_3 = RankPlan(
    pattern=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    controls=_llama_3_controls(),
    start="<|begin_of_text|>",
    end="<|end_of_text|>",
    adds_start=True,
    whole_words=True,
)
_PLANS = {50_256: _GPT_2, 128_000: _LLAMA_3}
_TITLES = {50_256: "GPT-2's", 128_000: "Llama 3's"}
