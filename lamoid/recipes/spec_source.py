"""What a command that shows a spec may be given: a spec's file, or the folder of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lamoid.assembly.spec import ModelSpec, read_spec
from lamoid.weights.folder import ModelFolder, open_folder


class SpecSource(NamedTuple):
    """A spec, and the folder of weights that it is the spec of, if there is one."""

    spec: ModelSpec
    folder: ModelFolder | None


def read_source(path: Path, ignore_fields: Sequence[str] = ()) -> SpecSource:
    """Read a ``.json`` or ``.toml`` file, or the description in a model folder; raise ``InputError`` for another.

    Fields of config.json that lamoid does not know are refused but for ``ignore_fields``.
    """
    if path.suffix in (".json", ".toml") and not path.is_dir():
        return SpecSource(read_spec(path), None)
    folder = open_folder(path, ignore_fields=ignore_fields)
    return SpecSource(folder.spec, folder)
