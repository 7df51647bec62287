"""Whether models on the disk are what their manifests say, asked while they are fused."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lamoid.errors import InputError
from lamoid.fusion.source import Source
from lamoid.weights.durable import MANIFEST, read_manifest
from lamoid.weights.hashed import hash_file

_AT_ONCE = 2


def check_hashes(models: Sequence[Source]) -> None:
    """Raise an ``InputError`` naming the first weight file whose sha256 is not the one in its folder's manifest.

    Files of folders without a manifest, and tensors that lie in no file, have nothing to be compared with.
    """
    files = {info.file: None for model in models for info in map(model.tensors.__getitem__, model.tensors)}
    manifests: dict[Path, dict[str, tuple[int, str]]] = {}
    known: dict[Path, str] = {}
    for file in files:
        if not file.is_file():
            continue
        if file.parent not in manifests:
            has_manifest = (file.parent / MANIFEST).is_file()
            manifests[file.parent] = read_manifest(file.parent) if has_manifest else {}
        if file.name in manifests[file.parent]:
            known[file] = manifests[file.parent][file.name][1]
    with ThreadPoolExecutor(_AT_ONCE, "verify") as threads:
        for file, digest in zip(known, threads.map(hash_file, known), strict=True):
            if digest != known[file]:
                threads.shutdown(wait=False, cancel_futures=True)
                cure = "take a whole copy; if the file was changed on purpose, remove the manifest"
                raise InputError(file, "its sha256 is not the one in the manifest", cure)
