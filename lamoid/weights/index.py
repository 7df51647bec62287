"""Finds which file of a model folder holds which tensor: one safetensors file, or shards with an index."""

from pathlib import Path
from typing import Any

from lamoid.contained import contained, is_there, read_inside
from lamoid.errors import InputError
from lamoid.strict_json import parse_json
from lamoid.weights.header import TensorInfo, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
INDEX_LIMIT = 200 * 10**6
_FETCH = "The folder is incomplete or mixed up: fetch it anew"


def locate_tensors(folder: Path) -> dict[str, TensorInfo]:
    """Give every tensor of the folder. The index and the headers must tell the same story, tensor by tensor.

    Raise InputError naming the file and the field. Shards and index may be links into a Hugging Face cache.
    """
    if not is_there(folder, INDEX):
        return _locate_single(folder)
    weight_map, total = _read_index(folder)
    shards = sorted(set(weight_map.values()))
    if SINGLE not in shards and (folder / SINGLE).exists():
        problem = f"both {SINGLE} and {INDEX} are there, and the index does not list the former"
        raise InputError(folder, problem, "Remove the one that is not meant")
    paths = {shard: contained(folder, shard) for shard in shards}  # all are looked for before any is read
    found: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, info in read_header(paths[shard]).items():
            _check_listed(folder, name, shard, weight_map, found)
            found[name] = info
    absent = [name for name in weight_map if name not in found]
    if absent:
        name = absent[0]
        problem = f"it says that {name!r} is in {weight_map[name]}, which has no such tensor ({len(absent)} such)"
        raise InputError(folder / INDEX, problem, _FETCH)
    _check_total(folder, total, sum(info.stop - info.start for info in found.values()))
    return found


def _locate_single(folder: Path) -> dict[str, TensorInfo]:
    if is_there(folder, SINGLE):
        return read_header(contained(folder, SINGLE))
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled:
        problem = f"its weights ({pickled[0]}) are pickled, which can run code, and are never opened"
        raise InputError(folder, problem, "Convert them to safetensors first, where you trust them")
    raise InputError(folder, f"there is neither {SINGLE} nor {INDEX}", "Give a folder that holds a model's weights")


def _read_index(folder: Path) -> tuple[dict[str, str], Any]:
    file = folder / INDEX
    index = parse_json(read_inside(folder, INDEX, limit=INDEX_LIMIT), file=file)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{file}: weight_map", "it is not an object of tensor names and files", _FETCH)
    for shard in {value if isinstance(value, str) else repr(value) for value in weight_map.values()}:
        if not shard.endswith(".safetensors"):
            raise InputError(f"{file}: weight_map", f"{shard[:200]!r} is not the name of a safetensors file", _FETCH)
    metadata = index.get("metadata", {})
    if not isinstance(metadata, dict):
        raise InputError(f"{file}: metadata", "it is not an object", _FETCH)
    return weight_map, metadata.get("total_size")


def _check_listed(
    folder: Path, name: str, shard: str, weight_map: dict[str, str], found: dict[str, TensorInfo]
) -> None:
    if name in found:
        raise InputError(folder / INDEX, f"{name!r} is both in {found[name].file.name} and in {shard}", _FETCH)
    if name not in weight_map:
        raise InputError(folder / INDEX, f"{shard} holds {name!r}, which is not listed", _FETCH)
    if weight_map[name] != shard:
        raise InputError(folder / INDEX, f"it says that {name!r} is in {weight_map[name]}, it is in {shard}", _FETCH)


def _check_total(folder: Path, total: Any, bytes_found: int) -> None:
    if total is None:
        return
    culprit = f"{folder / INDEX}: metadata.total_size"
    if type(total) is not int or total < 0:
        raise InputError(culprit, f"{str(total)[:40]!r} is not a whole number of bytes", "Correct it, or remove it")
    if total != bytes_found:
        problem = f"it says {total} bytes, the tensors have {bytes_found}"
        raise InputError(culprit, problem, "Fetch the folder anew; if it is known to be whole, remove total_size")
