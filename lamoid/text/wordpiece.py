"""BERT's vocabulary (vocab.txt, one piece a line, its id the line's number from 0) as a tokenizer.json."""

from typing import Any

from lamoid.errors import InputError
from lamoid.text.checking import MOST_PIECE_BYTES, MOST_PIECES
from lamoid.text.document import SETTINGS, added_token, document, template

CURE = "fetch vocab.txt again"
UNKNOWN = "[UNK]"
CONTROLS = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100  # characters; a longer word is unknown as a whole, as in BERT's own code


def wordpiece_document(
    data: bytes, name: object, beside: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the tokenizer.json and tokenizer_config.json that mean the same as BERT's vocab.txt.

    ``beside`` is a tokenizer_config.json whose ``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars``
    count. Without the first, text is put in lower case if no piece has a capital letter (BERT's Chinese vocabulary
    has none either). Raise InputError naming file and line.
    """
    ids = _pieces(data, name)
    for token in (UNKNOWN, "[CLS]", "[SEP]"):
        if token not in ids:
            raise InputError(name, f"has no line {token}", "bring the vocabulary of a BERT")
    chosen = _settings(beside or {}, f"{name}: tokenizer_config.json")
    lower = chosen["do_lower_case"]
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": chosen["tokenize_chinese_chars"] is not False,
        "strip_accents": chosen["strip_accents"],
        "lowercase": not any(_has_capital(piece) for piece in ids) if lower is None else lower,
    }
    controls = sorted((ids[token], token) for token in CONTROLS if token in ids)
    made = document(
        added_tokens=[added_token(token, number) for number, token in controls],
        normalizer=normalizer,
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template("[CLS] A [SEP]", "[CLS] A [SEP] B:1 [SEP]:1", {t: ids[t] for t in ("[CLS]", "[SEP]")}),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model={
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": ids,
        },
    )
    roles = {"unk_token": UNKNOWN, "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    named = {role: token for role, token in {**roles, "mask_token": "[MASK]"}.items() if token in ids}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return made, {**SETTINGS, **named, "do_lower_case": normalizer["lowercase"], "model_input_names": inputs}


def _pieces(data: bytes, name: object) -> dict[str, int]:
    lines = data.removesuffix(b"\n").split(b"\n")
    if len(lines) > MOST_PIECES:
        raise InputError(name, f"{len(lines)} lines, the limit is {MOST_PIECES}", CURE)
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        where, line = f"{name}: line {number}", line.removesuffix(b"\r")
        if not 0 < len(line) <= MOST_PIECE_BYTES:
            raise InputError(where, f"a piece of {len(line)} bytes, not 1 to {MOST_PIECE_BYTES}", CURE)
        try:
            piece = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(where, f"is not UTF-8 at byte {error.start}", CURE) from None
        if piece in ids:
            raise InputError(where, f"{piece!r} stands on line {ids[piece] + 1} already", CURE)
        ids[piece] = number - 1
    return ids


def _settings(beside: dict[str, Any], where: str) -> dict[str, bool | None]:
    found = {key: beside.get(key) for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars")}
    for key, value in found.items():
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{where}: {key}", f"{str(value)[:80]!r} is neither true nor false", "mend the setting")
    return found


def _has_capital(piece: str) -> bool:
    """Tell whether a piece other than ``[NAME]`` or ``<NAME>`` has a letter that lower case would change."""
    return piece != piece.lower() and not (piece[0] in "[<" and piece[-1] in "]>")
