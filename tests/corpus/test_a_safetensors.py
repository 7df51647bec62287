"""Area A: hostile and broken safetensors files. Each is refused by name, or read exactly as the library reads it."""

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from lamoid.errors import InputError
from lamoid.weights.header import read_header
from lamoid.weights.read import open_tensors

pytestmark = pytest.mark.timeout(60)

LIMIT = 100 * 10**6


def pack(header: object, data: bytes = bytes(8)) -> bytes:
    """Puts a header (an object, or its bytes) before the data."""
    text = (
        header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in entry().items() if name != key}


def raw(length: int, body: bytes = b"{}") -> bytes:
    return length.to_bytes(8, "little") + body


GOOD = pack({"t": entry()})
ONE = json.dumps(entry()).encode()

REFUSED: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "01-0B": (b"", "0 bytes"),
    "02-7B": (bytes(7), "7 bytes"),
    "03-length-0": (raw(0), "starts with"),
    "04-length-1": (raw(1), "JSON"),
    "05-length-2^31": (raw(2**31), "2147483648 bytes, the limit is 100000000"),
    "06-length-2^63": (raw(2**63), "the limit is 100000000"),
    "07-length-2^64-1": (raw(2**64 - 1), "the limit is 100000000"),
    "08-length-of-file-minus-7": (raw(len(GOOD) - 7, GOOD[8:]), "the file has"),
    "09-header-100MB+1": (lambda: raw(LIMIT + 1, b"{" + b" " * LIMIT), "100000001 bytes, the limit is 100000000"),
    "10-spaces-only": (pack(b" " * 64), "starts with"),
    "11-BOM": (pack(b"\xef\xbb\xbf" + json.dumps({"t": entry()}).encode()), "starts with"),
    "12-array": (pack(b"[]", b""), "starts with"),
    "13-string": (pack(b'"t"', b""), "starts with"),
    "14-null": (pack(b"null", b""), "starts with"),
    "15-truncated-JSON": (pack(json.dumps({"t": entry()}).encode()[:-1]), "brackets"),
    "16-depth-10^5": (pack(b'{"t":' + b"[" * 10**5 + b"]" * 10**5 + b"}"), "more than 3"),
    "16b-depth-at-the-size-limit": (lambda: pack(b"{" + b"[" * (LIMIT - 1)), "the limit is"),
    "17-not-UTF-8": (pack(json.dumps({"t": entry()}).encode().replace(b'"t"', b'"\xff"')), "byte 2 is not UTF-8"),
    "18-duplicate-tensor": (pack(b'{"t":' + ONE + b',"t":' + ONE + b"}"), "'t' stands twice"),
    "19-duplicate-of-other-dtype": (pack(b'{"t":' + ONE + b',"t":' + ONE.replace(b"F32", b"I32") + b"}"), "twice"),
    "20-duplicate-metadata": (pack(b'{"__metadata__":{},"t":' + ONE + b',"__metadata__":{}}'), "twice"),
    "21-metadata-null": (pack({"__metadata__": None, "t": entry()}), "__metadata__"),
    "22-metadata-int": (pack({"__metadata__": 1, "t": entry()}), "__metadata__"),
    "23-metadata-nested": (pack({"__metadata__": {"a": {}}, "t": entry()}), "__metadata__"),
    "24-unknown-dtype": (pack({"t": entry("F33")}), "dtype 'F33' is none of"),
    "25-lower-case-dtype": (pack({"t": entry("f32")}), "dtype 'f32' is none of"),
    "25b-dtype-is-a-list": (pack({"t": entry(["F32"])}), "is none of"),
    "26-no-dtype": (pack({"t": without("dtype")}), "exactly dtype, shape and data_offsets"),
    "27-no-shape": (pack({"t": without("shape")}), "exactly"),
    "28-no-offsets": (pack({"t": without("data_offsets")}), "exactly"),
    "29-extra-key": (pack({"t": entry(strides=[1])}), "exactly"),
    "29b-entry-is-a-list": (pack({"t": [1]}), "exactly"),
    "30-offsets-reversed": (pack({"t": entry(offsets=[8, 0])}), "8 to 0 do not hold the 8 bytes"),
    "31-offset-negative": (pack({"t": entry(offsets=[-8, 0])}), "-8 to 0"),
    "32-offset-float": (pack({"t": entry(offsets=[0, 8.0])}), "not two whole numbers"),
    "33-offset-2^63": (pack({"t": entry(offsets=[2**63, 2**63 + 8])}), "leaves a hole"),
    "34-offset-string": (pack({"t": entry(offsets=["0", "8"])}), "not two whole numbers"),
    "34b-three-offsets": (pack({"t": entry(offsets=[0, 8, 8])}), "not two whole numbers"),
    "35-overlap-of-1": (pack({"t": entry(), "u": entry(offsets=[7, 15])}, bytes(15)), "overlaps"),
    "36-hole-of-1": (pack({"t": entry(), "u": entry(offsets=[9, 17])}, bytes(17)), "hole"),
    "37-first-offset-1": (pack({"t": entry(offsets=[1, 9])}, bytes(9)), "hole"),
    "38-trailing-byte": (GOOD + b"\0", "its tensors end at byte"),
    "39-missing-byte": (GOOD[:-1], "its tensors end at byte"),
    "40-shape-minus-1": (pack({"t": entry(shape=[-1, -2])}), "whole numbers from 0"),
    "41-shape-true": (pack({"t": entry(shape=[True, 2])}), "whole numbers from 0"),
    "42-shape-1.0": (pack({"t": entry(shape=[2.0])}), "whole numbers from 0"),
    "43-shape-string": (pack({"t": entry(shape=["2"])}), "whole numbers from 0"),
    "44-shape-2^64": (pack({"t": entry(shape=[2**64])}), "whole numbers from 0"),
    "45-product-overflow": (pack({"t": entry(shape=[2**32, 2**32, 2])}), "do not hold the 147573952589676412928 bytes"),
    "46-0x2^62": (pack({"t": entry(shape=[0, 2**62], offsets=[0, 0])}, b""), "whole numbers from 0"),
    "47-rank-5000": (pack({"t": entry(shape=[1] * 5000, offsets=[0, 4])}, bytes(4)), "at most 8 numbers"),
    "48-shape-is-int": (pack({"t": entry(shape=2)}), "not a list"),
    "49-F4-odd-count": (pack({"t": entry("F4", [3], [0, 2])}, bytes(2)), "dtype 'F4' is none of"),
    "50-name-empty": (pack({"": entry()}), "0 characters"),
    "51-name-parent": (pack({"../x": entry()}), "looks like a path"),
    "52-name-absolute": (pack({"/etc/x": entry()}), "looks like a path"),
    "53-name-NUL": (pack({"a\0b": entry()}), "control"),
    "54-name-of-1MB": (pack({"a" * 10**6: entry()}), "1000000 characters, the limits are 1 and 512"),
    "55-name-right-to-left": (pack({"a\u202eb": entry()}), "direction"),
    "56-name-half-surrogate": (pack(b'{"\\ud800":' + ONE + b"}"), "surrogate"),
    "57-NaN-in-shape": (pack({"t": entry(shape=[math.nan])}), "NaN"),
    "58-digits-5000": (pack({"t": entry(shape=[int("1" * 4000)])}), "4000 digits"),
    "59-tensors-200000": (
        lambda: pack({str(i): entry("U8", [1], [i, i + 1]) for i in range(200_000)}, bytes(200_000)),
        "the limit is",
    ),
    "60-metadata-of-3-million-keys": (
        lambda: pack(b'{"__metadata__":{' + b",".join(b'"%d":""' % i for i in range(3_000_000)) + b"}}"),
        "the limit is",
    ),
    "61-quotes-at-the-size-limit": (lambda: pack(b'{"a"' + b'""' * (LIMIT // 2 - 2)), "the limit is"),
    "62-open-string-of-escapes": (lambda: pack(b'{"' + b'\\"' * (10**6)), "brackets"),
}


def place(folder: Path, data: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    data, expected = REFUSED[case]
    data = data() if callable(data) else data
    path = place(tmp_path, data)
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert caught.value.culprit.startswith(str(path))
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert [found.name for found in tmp_path.iterdir()] == ["model.safetensors"]
    path.write_bytes(GOOD)
    assert list(read_header(path)) == ["t"]


@pytest.mark.parametrize(
    ("body", "factor"),
    [(b"{" + b" " * (LIMIT - 1), 4), (b"{" + b"[" * (LIMIT - 1), 4), (b'{"' + b'\\"' * 10**6, 8)],
    ids=["spaces", "brackets", "escapes"],
)
def test_memory_is_bounded_by_the_header(tmp_path: Path, body: bytes, factor: int) -> None:
    path = place(tmp_path, pack(body))
    tracemalloc.start()
    with pytest.raises(InputError):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < factor * len(body) + 2**20


def test_scalar_and_empty_tensors_are_read(tmp_path: Path) -> None:
    header = {"none": entry("F32", [0, 3], [0, 0]), "s": entry("F32", [], [0, 4])}
    place(tmp_path, pack(header, torch.tensor(2.5).numpy().tobytes()))
    tensors = open_tensors(tmp_path)
    assert tensors["s"].shape == ()
    assert tensors.tensor("s").item() == 2.5
    assert tensors.tensor("none").shape == (0, 3)


def test_bool_byte_7_is_refused_when_read(tmp_path: Path) -> None:
    place(tmp_path, pack({"b": entry("BOOL", [4], [0, 4])}, bytes([0, 1, 7, 1])))
    tensors = open_tensors(tmp_path)
    with pytest.raises(InputError, match="neither 0 nor 1"):
        tensors.tensor("b")
    place(tmp_path, pack({"b": entry("BOOL", [4], [0, 4])}, bytes([0, 1, 1, 0])))
    assert open_tensors(tmp_path).tensor("b").tolist() == [False, True, True, False]


def test_not_a_number_infinite_and_subnormal_are_kept_bit_for_bit(tmp_path: Path) -> None:
    bits = torch.tensor([0x7FC00001, 0x7F800000, -0x800000, 1, -0x80000000, 0x7F800001], dtype=torch.int32)
    place(tmp_path, pack({"t": entry("F32", [6], [0, 24])}, bits.numpy().tobytes()))
    assert torch.equal(open_tensors(tmp_path).tensor("t").view(torch.int32), bits)


def test_truncation_at_every_byte_of_the_header(tmp_path: Path) -> None:
    header_end = len(GOOD) - 8
    for length in range(header_end + 8):
        with pytest.raises(InputError, match=r"model\.safetensors"):
            read_header(place(tmp_path, GOOD[:length]))


def test_a_flipped_bit_in_the_header_is_refused_or_read_as_the_library_reads_it(tmp_path: Path) -> None:
    whole = pack({"__metadata__": {"format": "pt"}, "t": entry(), "u.v": entry("BF16", [1, 4], [8, 16])}, bytes(16))
    refused = 0
    for position in range((len(whole) - 16) * 8):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path = place(tmp_path, bytes(damaged))
        try:
            ours = {name: info.shape for name, info in read_header(path).items()}
        except InputError:
            refused += 1
            continue
        with safetensors.safe_open(path, "pt") as theirs:
            assert ours == {name: tuple(theirs.get_slice(name).get_shape()) for name in theirs.keys()}  # noqa: SIM118
    assert refused > len(whole)


def test_flipped_bits_in_the_data_are_data(tmp_path: Path) -> None:
    for position in range(64):
        damaged = bytearray(GOOD)
        damaged[-8 + position // 8] ^= 1 << position % 8
        theirs = safetensors.torch.load(bytes(damaged))["t"]
        place(tmp_path, bytes(damaged))
        assert torch.equal(open_tensors(tmp_path).tensor("t").view(torch.int32), theirs.view(torch.int32))
