"""Area H: hostile and broken GGUF files. Each is refused by name, or read just as the format's own library reads it."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch

from lamoid.errors import InputError
from lamoid.recipes.gguf_info import gguf_info
from lamoid.weights.gguf_header import (
    DIMENSION_LIMIT,
    ITEMS_LIMIT,
    KEY_LIMIT,
    KEYS_LIMIT,
    NAME_LIMIT,
    TENSORS_LIMIT,
    TEXT_LIMIT,
    read_gguf,
)
from lamoid.weights.gguf_read import read_tensor

pytestmark = pytest.mark.timeout(60)

U32, TEXT, LIST, BOOL, U8 = 4, 8, 9, 7, 0
F32, Q8_0 = 0, 8


def text(data: str | bytes) -> bytes:
    raw = data if isinstance(data, bytes) else data.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def number(name: str, value: int) -> bytes:
    return key(name, U32, struct.pack("<I", value))


def tensor(
    name: str | bytes = "t", shape: tuple[int, ...] = (8,), kind: int = F32, offset: int = 0, axes: int | None = None
) -> bytes:
    count = len(shape) if axes is None else axes
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


def pack(
    keys: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: bytes = struct.pack("<I", 3),
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """Put a file together; ``counts`` are the stated numbers of tensors and of keys."""
    stated = counts or (len(tensors), len(keys))
    header = magic + version + struct.pack("<QQ", *stated) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % alignment) + data


NAME = key("general.architecture", TEXT, text("llama"))
GOOD = pack((NAME,), (tensor(),), bytes(32))
TWO = (tensor("a"), tensor("b", offset=32))

REFUSED: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "01-empty": (b"", "the first 4 bytes"),
    "02-magic": (pack((NAME,), magic=b"GGUG"), "begins with b'GGUG'"),
    "02b-magic-turned-round": (pack((NAME,), magic=b"FUGG"), "begins with"),
    "02c-safetensors": (struct.pack("<Q", 2) + b"{}", "begins with"),
    "03-version-0": (pack(version=struct.pack("<I", 0)), "version: 0, and 2 and 3"),
    "04-version-1": (pack(version=struct.pack("<I", 1)), "version: 1, and 2 and 3"),
    "06-version-99": (pack(version=struct.pack("<I", 99)), "version: 99"),
    "07-big-endian": (pack(version=struct.pack(">I", 3)), "big-endian"),
    "08-keys-2^63": (pack(counts=(0, 2**63)), f"{2**63}, the limit is {KEYS_LIMIT}"),
    "08b-one-key-too-many": (pack((NAME,), counts=(0, 2)), "metadata key 1: .. is empty"),
    "09-tensors-2^63": (pack(counts=(2**63, 0)), f"{2**63}, the limit is {TENSORS_LIMIT}"),
    "09b-one-tensor-too-many": (pack((), (tensor(),), counts=(2, 0)), "cut off|axes|name"),
    "10-key-of-65536": (pack((number("k" * 65536, 1),)), f"65536 bytes, the limit is {KEY_LIMIT}"),
    "10b-key-empty": (pack((number("", 1),)), "empty or not of printable ASCII"),
    "10c-key-length-2^64-1": (pack((struct.pack("<Q", 2**64 - 1),)), "the limit is 65535"),
    "11-key-not-ASCII": (pack((number("k\u00fc", 1),)), "ASCII"),
    "11b-key-not-UTF-8": (pack((key(b"k\xff", U32, bytes(4)),)), "not UTF-8 at byte 1"),
    "11c-key-with-a-line-end": (pack((number("a\nb", 1),)), "printable"),
    "12-key-twice": (pack((NAME, NAME)), "stands there twice"),
    "13-text-2^64-1": (pack((key("k", TEXT, struct.pack("<Q", 2**64 - 1)),)), f"the limit is {TEXT_LIMIT}"),
    "13b-text-behind-the-end": (pack((key("k", TEXT, struct.pack("<Q", 2**20)),)), "cut off"),
    "13c-text-not-UTF-8": (pack((key("k", TEXT, text(b"\xc3\x28")),)), "not UTF-8"),
    "14-lists-in-lists": (
        pack((key("k", LIST, struct.pack("<IQ", LIST, 1) * 1000 + struct.pack("<IQ", U8, 0)),)),
        "list of lists",
    ),
    "15-list-2^60": (pack((key("k", LIST, struct.pack("<IQ", U8, 2**60)),)), f"{2**60} items, the limit is"),
    "15b-list-behind-the-end": (pack((key("k", LIST, struct.pack("<IQ", U8, 2**20)),)), "cut off"),
    "15c-texts-behind-the-end": (pack((key("k", LIST, struct.pack("<IQ", TEXT, 2**20)),)), "cut off"),
    "15d-lists-too-long-together": (
        lambda: pack(
            tuple(key(f"k{i}", LIST, struct.pack("<IQ", U8, ITEMS_LIMIT // 2) + bytes(ITEMS_LIMIT // 2)) for i in "abc")
        ),
        f"the limit is {ITEMS_LIMIT}",
    ),
    "15e-list-of-unknown": (pack((key("k", LIST, struct.pack("<IQ", 13, 0)),)), "type 13 is not known"),
    "16-bool-2": (pack((key("k", BOOL, b"\x02"),)), "truth value is 2"),
    "16b-list-with-bool-2": (pack((key("k", LIST, struct.pack("<IQ", BOOL, 2) + b"\x01\x02"),)), "truth value is 2"),
    "17-unknown-type": (pack((key("k", 13, bytes(8)),)), "type 13 is not known"),
    "17b-unknown-type-2^32-1": (pack((key("k", 2**32 - 1, bytes(8)),)), "is not known"),
    "18-alignment-0": (pack((number("general.alignment", 0),), (tensor(),), bytes(32)), "0 .u32. is not a power"),
    "19-alignment-3": (pack((number("general.alignment", 3),), (tensor(),), bytes(32)), "3 .u32. is not a power"),
    "20-alignment-2^31": (pack((number("general.alignment", 2**31),), (tensor(),), bytes(32)), "is not a power"),
    "20b-alignment-is-a-text": (pack((key("general.alignment", TEXT, text("32")),)), "is not a power"),
    "20c-alignment-is-true": (pack((key("general.alignment", BOOL, b"\x01"),)), "is not a power"),
    "21-offset-not-aligned": (pack((), (tensor(offset=4),), bytes(64)), "4 is no multiple of the alignment 32"),
    "22-offset-behind-the-file": (pack((), (tensor("a"), tensor("b", offset=2**40)), bytes(64)), "leaves a hole"),
    "22b-offset-2^64-32": (pack((), (tensor(offset=2**64 - 32),), bytes(64)), "leaves a hole"),
    "22c-data-behind-the-file": (pack((), (tensor(shape=(2**30,)),), bytes(64)), "cut off"),
    "23-overlapping": (pack((), (tensor("a", (16,)), tensor("b", offset=32)), bytes(96)), "overlaps"),
    "23b-same-place": (pack((), (tensor("a"), tensor("b")), bytes(64)), "overlaps"),
    "23c-hole": (pack((), (tensor("a"), tensor("b", offset=64)), bytes(96)), "leaves a hole"),
    "24-axes-0": (pack((), (tensor(shape=(), axes=0),), bytes(32)), "0 axes"),
    "25-axes-99": (pack((), (tensor(shape=(1,) * 99),), bytes(32)), "99 axes, the limits are 1 and 4"),
    "25b-axes-2^32-1": (pack((), (tensor(axes=2**32 - 1),), bytes(32)), "axes"),
    "26-dimension-0": (pack((), (tensor(shape=(8, 0)),), bytes(32)), "shape .8, 0. is not of lengths from 1"),
    "27-dimension-2^63": (pack((), (tensor(shape=(2**63,)),), bytes(32)), str(DIMENSION_LIMIT)),
    "28-product-overflows": (pack((), (tensor(shape=(2**32, 2**32, 2, 1)),), bytes(32)), "cut off"),
    "28b-product-of-the-largest": (pack((), (tensor(shape=(2**40,) * 4),), bytes(32)), "cut off"),
    "29-block-does-not-divide": (pack((), (tensor(shape=(48, 2), kind=Q8_0),), bytes(128)), "48 numbers, and q8_0"),
    "29b-block-does-not-divide-256": (pack((), (tensor(shape=(128,), kind=12),), bytes(160)), "q4_k has blocks of 256"),
    "29c-unknown-kind": (pack((), (tensor(kind=4),), bytes(32)), "type 4 is not known"),
    "29d-unknown-kind-2^32-1": (pack((), (tensor(kind=2**32 - 1),), bytes(32)), "is not known"),
    "30-name-twice": (pack((), (tensor("a"), tensor("a", offset=32)), bytes(64)), "stands there twice"),
    "30b-name-of-65": (pack((), (tensor("n" * 65),), bytes(32)), f"65 bytes, the limit is {NAME_LIMIT}"),
    "30c-name-empty": (pack((), (tensor(""),), bytes(32)), "empty"),
    "30d-name-is-a-path": (pack((), (tensor("../x"),), bytes(32)), "path"),
    "30e-name-with-direction-marks": (pack((), (tensor("a\u202eb"),), bytes(32)), "control marks"),
    "30f-name-2^64-1": (pack((), (struct.pack("<Q", 2**64 - 1),), bytes(32)), "the limit is 64"),
    "31-bytes-behind-the-end": (GOOD + bytes(1), "tensors end at byte"),
}


def place(folder: Path, data: bytes) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    data, said = REFUSED[case]
    path = place(tmp_path, data if isinstance(data, bytes) else data())
    tracemalloc.start()
    with pytest.raises(InputError, match=said) as raised:
        read_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in raised.value.culprit
    assert "\n" not in str(raised.value)
    assert peak < 2**22 + 80 * path.stat().st_size  # what a list of numbers takes, and nothing by a stated count


@pytest.mark.parametrize("version", [2, 3])
def test_what_is_whole_is_read_as_the_library_reads_it(version: int, tmp_path: Path) -> None:
    keys = (
        NAME,
        key("a.bool", BOOL, b"\x01"),
        key("a.texts", LIST, struct.pack("<IQ", TEXT, 2) + text("\u00fc") + text("")),
        key("a.numbers", LIST, struct.pack("<IQ3i", 5, 3, -1, 0, 2**31 - 1)),
        key("a.float", 12, struct.pack("<d", 1e300)),
        number("general.alignment", 64),
    )
    numbers = torch.arange(24, dtype=torch.float32)
    tensors = (tensor("a", (8, 3)), tensor("b", (2,), 30, 128))
    data = (
        numbers.numpy().tobytes()
        + bytes(32)
        + torch.tensor([1.5, -2.0], dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes()
    )
    path = place(tmp_path, pack(keys, tensors, data, version=struct.pack("<I", version), alignment=64))
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert ours.version == version
    for name, value in ours.metadata.items():
        assert value.data == theirs.fields[name].contents()
    found = {tensor.name: tensor for tensor in theirs.tensors}
    assert list(ours.tensors) == list(found)
    for name, info in ours.tensors.items():
        assert info.start == found[name].data_offset
        assert info.shape[::-1] == tuple(int(n) for n in found[name].shape)
    assert torch.equal(read_tensor(ours, "a"), numbers.view(3, 8))
    assert read_tensor(ours, "b").tolist() == [1.5, -2.0]


def test_cut_at_every_byte(tmp_path: Path) -> None:
    keys = (NAME, key("k", LIST, struct.pack("<IQ", TEXT, 1) + text("x")), number("n", 7))
    whole = pack(keys, TWO, bytes(64))
    assert len(read_gguf(place(tmp_path, whole)).tensors) == 2
    for length in range(len(whole)):
        with pytest.raises(InputError, match=r"m\.gguf"):
            read_gguf(place(tmp_path, whole[:length]))


def test_a_flipped_bit_in_the_header_is_refused_or_read_as_the_library_reads_it(tmp_path: Path) -> None:
    whole = pack((NAME, number("n", 7)), TWO, bytes(64))
    refused = 0
    for position in range((len(whole) - 64) * 8):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path = place(tmp_path, bytes(damaged))
        try:
            ours = read_gguf(path)
        except InputError:
            refused += 1
            continue
        theirs = gguf.GGUFReader(path)
        assert {name: value.data for name, value in ours.metadata.items()} == {
            name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")
        }
        assert {name: info.start for name, info in ours.tensors.items()} == {
            tensor.name: tensor.data_offset for tensor in theirs.tensors
        }
    assert refused > len(whole)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(InputError, match="folder"):
        read_gguf(tmp_path)


def test_a_kind_that_is_not_unpacked(tmp_path: Path) -> None:
    file = read_gguf(place(tmp_path, pack((), (tensor("q", (256,), 12),), bytes(160))))
    assert file.tensors["q"].kind.name == "q4_k"
    with pytest.raises(InputError, match="packed as q4_k"):
        read_tensor(file, "q")


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    path = place(tmp_path, GOOD)
    file = read_gguf(path)
    path.write_bytes(GOOD[:-1])
    with pytest.raises(InputError, match="became shorter"):
        read_tensor(file, "t")


def test_what_a_stranger_wrote_is_shown_so_that_a_terminal_takes_it_for_nothing_else(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J"
    keys = (key("general.architecture", 8, text(evil)), key("author", 8, text(evil)))
    shown = gguf_info(place(tmp_path, pack(keys, (tensor(),), bytes(32))))
    assert shown.architecture == evil
    assert "\x1b" not in "\n".join(shown.lines())
    assert r"\x1b[2J" in shown.lines()[0]
