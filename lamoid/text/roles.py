"""Which tokens of a tokenizer play a part: what its settings name, what its template adds, what its names tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

from lamoid.errors import InputError


def named_tokens(config: dict[str, Any], name: str) -> dict[str, str]:
    """Give the control tokens that tokenizer_config.json names, role to token."""
    named: dict[str, str] = {}
    for role in ROLES:
        token = config.get(role)
        content = token.get("content") if isinstance(token, dict) else token
        if content is None or content == "":
            continue
        if not isinstance(content, str):
            raise InputError(f"{name}: {role}", f"must be a text, not {str(content)[:80]}", "name the token as text")
        named[role] = content
    for field in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(field) or ()
        values = list(more.values()) if isinstance(more, dict) else more
        for k, token in enumerate(values if isinstance(values, list) else ()):
            content = token.get("content") if isinstance(token, dict) else token
            if isinstance(content, str) and content:
                named[f"{field}[{k}]"] = content
    return named


def affixes(library: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Give the ids that the template of tokenizer.json puts before and after a text.

    ``add_bos_token`` of tokenizer_config.json says nothing here: transformers 5 ignores it beside a tokenizer.json.
    """
    bare = library.encode("a", add_special_tokens=False).ids
    full = library.encode("a", add_special_tokens=True).ids
    places = (k for k in range(len(full) + 1) if full[k : k + len(bare)] == bare)
    cut = next(places, 0) if bare else len(full)
    return full[:cut], full[cut + len(bare) :]


@dataclass(frozen=True)
class PairPlan:
    """Where a template puts two texts: (0 or 1, None, type) for a text, (None, id, type) for a control token."""

    slots: tuple[tuple[int | None, int | None, int], ...]

    @classmethod
    def of(cls, library: tokenizers.Tokenizer) -> "PairPlan":
        """Read the plan off what the library makes of two texts of one letter."""
        made = library.encode("a", "a", add_special_tokens=True)
        slots: list[tuple[int | None, int | None, int]] = []
        for number, kind, text in zip(made.ids, made.type_ids, made.sequence_ids, strict=True):
            slot = (None, number, kind) if text is None else (text, None, kind)
            if text is None or slot not in slots:
                slots.append(slot)
        if {text for text, _, _ in slots if text is not None} != {0, 1}:
            raise ValueError("its template leaves one of two texts out")
        return cls(tuple(slots))

    def fill(self, texts: tuple[Sequence[int], Sequence[int]]) -> tuple[list[int], list[int]]:
        """Give the ids of both texts with the control tokens between them, and the type of each."""
        ids: list[int] = []
        types: list[int] = []
        for text, control, kind in self.slots:
            added = texts[text] if text is not None else [control or 0]
            ids.extend(added)
            types.extend([kind] * len(added))
        return ids, types


def sentinels(number_of: Callable[[str], int | None], controls: frozenset[int]) -> tuple[int, ...]:
    """Give the ids of ``<extra_id_0>``, ``<extra_id_1>`` and so on, as far as they are control tokens."""
    found: list[int] = []
    while (number := number_of(f"<extra_id_{len(found)}>")) is not None and number in controls:
        found.append(number)
    return tuple(found)


ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
STARTS = ("<|begin_of_text|>", "<s>", "<bos>", "[CLS]", "<|endoftext|>")
ENDS = ("<|end_of_text|>", "</s>", "<eos>", "[SEP]", "<|endoftext|>")
MASKS = ("[MASK]", "<mask>")
PADS = ("[PAD]", "<pad>")
SEPARATORS = ("[SEP]", "</s>")
