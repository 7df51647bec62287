"""The hash that names a model in a report: of the files that make it, whatever folder they lie in."""

import hashlib
import os
from pathlib import Path

from lamoid.contained import contained, open_plain
from lamoid.weights.durable import MANIFEST, read_manifest, verify


def hash_model(folder: Path) -> str:
    """Give the sha256 over the names and sha256 of the folder's config, tokenizer and weight files.

    Where the folder has a manifest its hashes are taken, after a look at the sizes; else the files are read.
    """
    known: dict[str, tuple[int, str]] = {}
    if (folder / MANIFEST).exists():
        verify(folder, hashes=False)
        known = read_manifest(folder)
    digest = hashlib.sha256()
    for name in sorted(path.name for path in folder.iterdir() if _makes_the_model(path.name)):
        file_hash = known[name][1] if name in known else _hash_file(contained(folder, name))
        digest.update(f"{name} {file_hash}\n".encode())
    return digest.hexdigest()


def _makes_the_model(name: str) -> bool:
    return name in ("config.json", "tokenizer.json") or name.endswith((".safetensors", ".safetensors.index.json"))


def _hash_file(path: Path) -> str:
    descriptor, _ = open_plain(path)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
