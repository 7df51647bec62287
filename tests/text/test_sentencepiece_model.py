"""Broken and hostile sentencepiece files: always an InputError that names the file and the place."""

import math
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.text.charsmap import charsmap_rules
from lamoid.text.sentencepiece_model import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, parse_model
from lamoid.text.tokenizer import Tokenizer

Field = tuple[int, int | float | bytes]


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields: Field) -> bytes:
    out = b""
    for key, value in fields:
        if isinstance(value, bytes):
            out += number(key << 3 | 2) + number(len(value)) + value
        elif isinstance(value, float):
            out += number(key << 3 | 5) + struct.pack("<f", value)
        else:
            out += number(key << 3) + number(value)
    return out


def piece(text: str | bytes, score: float = -1.0, kind: int = NORMAL) -> Field:
    content = text if isinstance(text, bytes) else text.encode()
    return 1, message((1, content), (2, score), (3, kind))


UNK, START, END = piece("<unk>", 0.0, UNKNOWN), piece("<s>", 0.0, CONTROL), piece("</s>", 0.0, CONTROL)
LETTERS = [piece(letter) for letter in "▁ab<>/s"]
TRAINING, NORMAL_FORM = (2, message((3, 1))), (3, message((1, b"identity")))


def model(*more: Field, training: Field = TRAINING, form: Field = NORMAL_FORM) -> bytes:
    return message(UNK, START, END, *LETTERS, *more, training, form)


def table(units: list[int], targets: bytes = b"x\0") -> Field:
    return 3, message((2, struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + targets))


def test_a_small_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model(piece("ab", -0.5), (99, b"unknown"), (100, 7), (101, 1.5)))
    tokenizer = Tokenizer.read(tmp_path)
    assert tokenizer.prompt("ab <s>") == [1, 3, 10, 3, 6, 9, 7]
    assert (tokenizer.vocab, tokenizer.controls) == (11, {0, 1, 2})


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it has no pieces"),
    "text": (b"hello world", "is no sentencepiece model|ends inside"),
    "zeros": (b"\0" * 100, "field 0 at byte 0"),
    "ones": (b"\xff" * 100, "a number of over 10 bytes"),
    "no-training": (message(UNK, *LETTERS, NORMAL_FORM), "has no trainer_spec"),
    "no-form": (message(UNK, *LETTERS, TRAINING), "has no normalizer_spec"),
    "length-beyond": (b"\x0a" + number(2**60) + b"abc", "1152921504606846976 bytes promised, 3 left"),
    "group": (b"\x0b\x0c", "wire type 3 at byte 0"),
    "no-unknown": (message(*LETTERS, TRAINING, NORMAL_FORM), "0 unknown pieces"),
    "two-unknown": (model(piece("<unk2>", 0.0, UNKNOWN)), "2 unknown pieces"),
    "twice": (model(piece("a")), "piece 10: 'a' is piece 4 too"),
    "nan": (model(piece("x", math.nan)), "piece 10: its score is nan"),
    "infinite": (model(piece("x", -math.inf)), "piece 10: its score is -inf"),
    "no-text": (model((1, message((2, 1.0)))), "piece 10: its text has 0 bytes"),
    "empty-text": (model(piece("")), "piece 10: its text has 0 bytes"),
    "huge-text": (model(piece("x" * 10**7)), "piece 10: its text has 10000000 bytes, not 1 to 512"),
    "not-utf-8": (model(piece(b"a\xff")), "piece 10: text: is not UTF-8 at byte 1"),
    "surrogate": (model(piece(b"\xed\xa0\x80")), "piece 10: text: is not UTF-8"),
    "text-is-number": (model((1, message((1, 7)))), "piece 10: text: is no text"),
    "score-is-text": (model((1, message((1, b"x"), (2, b"1")))), "piece 10: score: is no float"),
    "kind-unknown": (model(piece("x", kind=9)), "piece 10: its type 9 is not known"),
    "kind-huge": (model(piece("x", kind=2**63)), "its type 9223372036854775808 is not known"),
    "unused": (model(piece("x", kind=UNUSED)), "piece 10: 'x' is marked unused"),
    "piece-is-number": (model((1, 7)), "piece 10: is no message"),
    "piece-is-broken": (model((1, b"\x0a\x05ab")), "piece 10: ends inside field 1"),
    "training-is-number": (model(training=(2, 7)), "trainer_spec: is no message"),
    "kind-of-model": (model(training=(2, message((3, 77)))), "a 77 model; unigram and BPE are read"),
    "flag-is-text": (model(training=(2, message((35, b"x")))), "trainer_spec: byte_fallback: is no flag"),
    "name-not-utf-8": (model(training=(2, message((46, b"\xff")))), "bos_piece: is not UTF-8"),
    "table-short": (model(form=(3, message((2, b"abc")))), "charsmap: 3 bytes that hold no table"),
    "table-size": (model(form=(3, message((2, struct.pack("<I", 2**31) + b"abcdefgh")))), "a trie of 2147483648"),
    "table-no-end": (model(form=table([0], b"x")), "hold no table"),
    "a-million-pieces": (message(UNK) + b"\x0a\x03\x0a\x01a" * 10**6, "more than 524288 pieces"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_model_is_refused(case: str, tmp_path: Path) -> None:
    data, match = BAD[case]
    path = tmp_path / "a.model"
    path.write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        Tokenizer.read(path)
    assert caught.value.culprit.startswith(str(path))


def test_a_trie_that_leads_round_in_a_circle_ends() -> None:
    """Every place has 255 children that are places again: 255^64 ways if nobody counted."""
    units = [label | label << 10 for label in range(256)]  # place p with label p, its children from place 0 on
    blob = struct.pack("<I256I", 1024, *units) + b"x\0"
    with pytest.raises(InputError, match="its trie is over 64 bytes deep, or over 4194304 places large"):
        charsmap_rules(blob, "table")


def test_a_rule_that_points_beyond_the_targets_is_refused() -> None:
    units = [0] * 256
    units[ord("a")] = ord("a") | 1 << 8 | 1 << 10  # a value follows at place 97 ^ 1
    units[ord("a") ^ 1] = 1 << 31 | 500
    blob = struct.pack("<I256I", 1024, *units)
    with pytest.raises(InputError, match="the rule for b'a' points to byte 500 of 2"):
        charsmap_rules(blob + b"x\0", "table")
    units[ord("a") ^ 1] = 1 << 31
    assert charsmap_rules(struct.pack("<I256I", 1024, *units) + b"x\0", "table") == {"a": "x"}
    with pytest.raises(InputError, match="the rule for b'a' is not UTF-8"):
        charsmap_rules(struct.pack("<I256I", 1024, *units) + b"\xff\0", "table")


def test_a_file_cut_anywhere_is_refused_or_whole(data_folder: Path, tmp_path: Path) -> None:
    data = (data_folder / "tok_spm/test_model.model").read_bytes()
    path = tmp_path / "a.model"
    sizes = [*range(60), *range(0, len(data), 9973), *range(len(data) - 40, len(data))]
    for size in sizes:
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"a\.model"):
            Tokenizer.read(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_changed_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    good = bytearray(model(*(piece(f"<0x{b:02X}>", 0.0, BYTE) for b in range(256)), training=(2, message((35, 1)))))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        assert len(parse_model(bytes(good), "a.model").pieces) <= 300


@settings(deadline=None, max_examples=25)
@given(place=st.floats(0, 1), value=st.integers(0, 255))
def test_a_changed_byte_of_a_real_model_never_crashes(
    place: float, value: int, data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good = bytearray((data_folder / "tok_spm/test_model.model").read_bytes())
    good[int(place * (len(good) - 1))] = value
    path = tmp_path_factory.mktemp("flip") / "a.model"
    path.write_bytes(good)
    with suppress(InputError):
        assert Tokenizer.read(path).encode("hello é①中\u0301")


def test_what_is_no_plain_file_or_too_large_is_refused(tmp_path: Path) -> None:
    for name in ("tokenizer.model", "spiece.model", "vocab.txt"):
        folder = tmp_path / name[:3]
        folder.mkdir()
        (folder / name).mkdir()
        with pytest.raises(InputError, match=f"{name}: it is a folder"):
            Tokenizer.read(folder)
        (folder / name).rmdir()
        os.mkfifo(folder / name)
        with pytest.raises(InputError, match=f"{name}: it is a pipe"):
            Tokenizer.read(folder)
        (folder / name).unlink()
        with (folder / name).open("wb") as file:
            file.truncate(101 * 10**6)
        with pytest.raises(InputError, match=f"{name}: 101000000 bytes, the limit"):
            Tokenizer.read(folder)
        with pytest.raises(InputError, match=f"{name}: 101000000 bytes, the limit"):
            Tokenizer.read(folder / name)
