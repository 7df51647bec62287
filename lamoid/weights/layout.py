"""Where each tensor will lie in the safetensors files that are to be written: all is known before the first number."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lamoid.weights.header import NAMES, RANK_LIMIT
from lamoid.weights.index import SINGLE

SHARD_BYTES = 5 * 10**9
Info = tuple[str, torch.dtype, tuple[int, ...]]


@dataclass(frozen=True)
class Shard:
    """One file: its name, its tensors in order, and the bytes before the first of them."""

    name: str
    infos: list[Info]
    header: bytes

    @property
    def size(self) -> int:
        """The bytes of the whole file."""
        return len(self.header) + sum(info_bytes(info) for info in self.infos)


def cut_shards(infos: Sequence[Info], *, shard_bytes: int = SHARD_BYTES, single: str = SINGLE) -> list[Shard]:
    """Cut the tensors, in the order given, into files of at most ``shard_bytes``; a larger tensor is a file of its own.

    One file is called ``single``. Raise ``ValueError`` for tensors that safetensors cannot hold.
    """
    _check(infos)
    cuts = _cut(infos, shard_bytes)
    names = [f"model-{number:05}-of-{len(cuts):05}.safetensors" for number in range(1, len(cuts) + 1)]
    return [
        Shard(name, cut, _header(cut)) for name, cut in zip(names if len(cuts) > 1 else [single], cuts, strict=True)
    ]


def index_bytes(shards: Sequence[Shard]) -> bytes:
    """Give the content of the index that tells which file holds which tensor."""
    places = {info[0]: shard.name for shard in shards for info in shard.infos}
    total = sum(info_bytes(info) for shard in shards for info in shard.infos)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return json.dumps(index, indent=2, ensure_ascii=False).encode() + b"\n"


def info_bytes(info: Info) -> int:
    """Count the bytes of a tensor."""
    return math.prod(info[2]) * info[1].itemsize


def _check(infos: Sequence[Info]) -> None:
    if len({name for name, _, _ in infos}) != len(infos):
        raise ValueError("a tensor is named twice")
    for name, dtype, shape in infos:
        if dtype not in NAMES or len(shape) > RANK_LIMIT:
            raise ValueError(f"{name!r} of {dtype} and {len(shape)} axes cannot be written as safetensors")


def _cut(infos: Sequence[Info], shard_bytes: int) -> list[list[Info]]:
    cuts: list[list[Info]] = [[]]
    filled = 0
    for info in infos:
        if cuts[-1] and filled + info_bytes(info) > shard_bytes:
            cuts.append([])
            filled = 0
        cuts[-1].append(info)
        filled += info_bytes(info)
    return cuts


def _header(infos: Sequence[Info]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    here = 0
    for info in infos:
        name, dtype, shape = info
        stop = here + info_bytes(info)
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [here, stop]}
        here = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
