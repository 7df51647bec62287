"""sentencepiece's normalization table, as normalizers of the tokenizers library that obey it rule by rule.

The table holds pairs of source and target; from the left, the longest source that fits is replaced. The library's own
``Precompiled`` looks at whole grapheme clusters of up to five bytes, takes the *shortest* source and drops the rest of
the cluster, so that an accent after a circled digit is lost and decomposed kana are not joined. Here a separator is set
between characters first, so that it sees one at a time, and sources of several characters are left to Unicode's
canonical composition (NFC). A fence stands before every mark that no rule joins to the character before it, so that
composition does what the rules say and no more. Every rule is checked: all 224 711 of T5's table come out right. What
remains: scripts newer than the library's Unicode are not composed, and a table that folds case has 812 rules for
spellings that NFC composes before.
"""

import base64
import unicodedata
from collections import defaultdict
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import Any

import numpy as np

from lamoid.errors import InputError

# Noncharacters of four bytes: in no table, never composed, and too long for the library's clusters. In a text they
# become a third one, which is as unknown to every vocabulary.
SEPARATOR, FENCE, STAND_IN = "\U0005fffe", "\U0005ffff", "\U0006ffff"
BETWEEN = r"(?<=[^\x00-\x0c\x0e-\x7f])(?!\z)|(?<!\A)(?=[^\x00-\x7f])"
LONGEST_SOURCE = 64  # bytes
MOST_PLACES = 2**22  # of the trie, each counted as often as a source passes through it
CURE = "fetch the .model file again"


def charsmap_normalizers(blob: bytes, where: str, keep: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Give the normalizers of a tokenizer.json that do what the table ``blob`` says.

    Raise InputError naming ``where`` for a broken table, for one that changes a text of ``keep``, and for one with a
    rule that neither a table of single characters nor composition can follow (none of the built-in tables has one, but
    for those named above).
    """
    if not blob:
        return []
    rules = charsmap_rules(blob, where)
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}
    aside = _replace({"Regex": f"[{SEPARATOR}{FENCE}]"}, STAND_IN)
    split, unsplit = _replace({"Regex": BETWEEN}, SEPARATOR), _replace({"String": SEPARATOR}, "")
    single = {ord(source): target for source, target in rules.items() if len(source) == 1}
    for text in keep:
        if unicodedata.normalize("NFC", text.translate(single)) != text:
            raise InputError(where, f"it changes the user-defined piece {text!a}", "bring a tokenizer.json instead")
    if all(source.translate(single) == target for source, target in rules.items()):
        return [aside, split, table, unsplit]
    for source, target in rules.items():
        if unicodedata.normalize("NFC", source.translate(single)) != target and _must_hold(source):
            problem = f"its rule {source!a} to {target!a} joins characters in a way of its own"
            raise InputError(where, problem, "bring a tokenizer.json instead")
    fence, unfence = _replace({"Regex": _unjoined(rules)}, FENCE), _replace({"String": FENCE}, "")
    return [aside, fence, split, table, unsplit, {"type": "NFC"}, unfence]


def charsmap_rules(blob: bytes, where: str) -> dict[str, str]:
    """Give all rules of a table, source to target. Raise InputError naming ``where`` if it is broken.

    The table is the size of a double-array trie, the trie, and the targets, each ended by a zero byte. A unit of the
    trie (Darts-clone) is: bits 0 to 7 the label, bit 8 whether a value follows, bits 9 to 30 the way to the children;
    bit 31 is set in a value, whose other bits are the place of the target.
    """
    units, targets = _split(blob, where)
    labels = units & 0x800000FF
    inner = np.flatnonzero((labels > 0) & (labels < 256))
    children: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, label in zip(inner.tolist(), labels[inner].tolist(), strict=True):
        children[place ^ label].append((label, place))
    below = (np.arange(len(units)) ^ (units >> 10 << ((units & 1 << 9) >> 6))).tolist()
    has_value = (units >> 8 & 1).tolist()
    values = (units & 0x7FFFFFFF).tolist()
    rules: dict[str, str] = {}
    waiting = [(b"", below[0])]
    passed = 0
    while waiting:
        prefix, start = waiting.pop()
        for label, place in children.get(start, ()):
            source, passed = prefix + bytes([label]), passed + 1
            if len(source) > LONGEST_SOURCE or passed > MOST_PLACES:
                problem = f"its trie is over {LONGEST_SOURCE} bytes deep, or over {MOST_PLACES} places large"
                raise InputError(where, problem, CURE)
            if has_value[place]:
                key, target = _rule(source, values[below[place]] if below[place] < len(units) else -1, targets, where)
                rules[key] = target
            waiting.append((source, below[place]))
    return rules


def _unjoined(rules: dict[str, str]) -> str:
    """Give the expression of the places before a mark that no rule joins to the character before it.

    Marks are Unicode's, the vowels and finals of Hangul, and what the table makes one of these.
    """
    before: defaultdict[str, set[str]] = defaultdict(set)
    for source in rules:
        for first, second in pairwise(source):
            before[second].add(first)
    alike: defaultdict[frozenset[str], set[str]] = defaultdict(set)
    for second, firsts in before.items():
        alike[frozenset(firsts)].add(second)
    joined = sorted(f"(?<={_class(firsts)})(?={_class(seconds)})" for firsts, seconds in alike.items())
    made = {source for source, target in rules.items() if len(source) == 1 and _is_mark(target[:1])}
    return rf"(?<!\A)(?=[\p{{M}}\x{{1160}}-\x{{11FF}}{_class(made | before.keys())}])(?!{'|'.join(joined)})"


def _is_mark(character: str) -> bool:
    # Unicode 3.2, which every Python has: the same expression everywhere.
    return "\u1160" <= character <= "\u11ff" or unicodedata.ucd_3_2_0.category(character or " ").startswith("M")


def _class(characters: Set[str]) -> str:
    """Give the character class of ``characters``, by ranges."""
    ranges: list[list[int]] = []
    for number in sorted(map(ord, characters)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    ends = (rf"\x{{{first:X}}}" + (rf"-\x{{{end:X}}}" if end > first else "") for first, end in ranges)
    return f"[{''.join(ends)}]"


def _must_hold(source: str) -> bool:
    """Tell whether text may have ``source``: composed text of characters that this Unicode knows."""
    known = all(unicodedata.category(character) != "Cn" for character in source)
    return known and unicodedata.normalize("NFKC", source) == source


def _split(blob: bytes, where: str) -> tuple[np.ndarray, bytes]:
    size = int.from_bytes(blob[:4], "little")
    if len(blob) < 9 or size % 4 or not 4 <= size <= len(blob) - 5 or blob[-1]:
        raise InputError(where, f"{len(blob)} bytes that hold no table with a trie of {size} bytes", CURE)
    return np.frombuffer(blob, "<u4", size // 4, 4).astype(np.int64), blob[4 + size :]


def _rule(source: bytes, start: int, targets: bytes, where: str) -> tuple[str, str]:
    if not 0 <= start < len(targets):
        raise InputError(where, f"the rule for {source!r} points to byte {start} of {len(targets)}", CURE)
    try:
        return source.decode(), targets[start : targets.index(0, start)].decode()
    except UnicodeDecodeError:
        raise InputError(where, f"the rule for {source!r} is not UTF-8", CURE) from None


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}
