"""Shows what a GGUF file holds: its metadata and its tensors, none of their numbers."""

from collections import Counter
from pathlib import Path

import msgspec

from lamoid.recipes.shown import Shown
from lamoid.weights.gguf_header import GgufFile, read_gguf
from lamoid.weights.gguf_kinds import Value

_SHOWN = 60


class GgufTensorShown(msgspec.Struct, frozen=True):
    """One tensor; ``shape`` is torch's, the last axis running fastest."""

    name: str
    kind: str
    shape: list[int]


class GgufShown(Shown, frozen=True):
    """A GGUF file; of the metadata's lists only the length is given, ``kinds`` counts tensors."""

    path: str
    version: int
    architecture: str
    parameters: int
    bytes: int
    kinds: dict[str, int]
    metadata: dict[str, bool | int | float | str]
    tensors: list[GgufTensorShown]

    def lines(self) -> list[str]:
        """Write figures, then the metadata, then the tensors."""
        kinds = ", ".join(f"{count} of {kind}" for kind, count in self.kinds.items())
        told = f"GGUF {self.version}, {_said(self.architecture) or 'no architecture'}, {self.parameters:,} parameters"
        listed = [f"{tensor.name:<32} {tensor.kind:<6} {_axes(tensor.shape)}" for tensor in self.tensors]
        metadata = [f"{key:<44} {_line(value)}" for key, value in self.metadata.items()]
        return [f"{self.path}: {told}", f"{self.bytes:,} bytes; tensors: {kinds or 'none'}", "", *metadata, "", *listed]


def gguf_info(path: Path) -> GgufShown:
    """Read a GGUF file's header. Raises ``InputError`` for what is none, or damaged."""
    file = read_gguf(path)
    return GgufShown(
        path=str(path),
        version=file.version,
        architecture=_architecture(file),
        parameters=sum(tensor.elements for tensor in file.tensors.values()),
        bytes=path.stat().st_size,
        kinds=dict(Counter(tensor.kind.name for tensor in file.tensors.values())),
        metadata={key: _short(value) for key, value in file.metadata.items()},
        tensors=[GgufTensorShown(t.name, t.kind.name, list(t.shape)) for t in file.tensors.values()],
    )


def _architecture(file: GgufFile) -> str:
    value = file.metadata.get("general.architecture")
    return str(value.data)[:_SHOWN] if value is not None and value.kind == "text" else ""


def _short(value: Value) -> bool | int | float | str:
    return f"{len(value.data)} of {value.kind}" if isinstance(value.data, list) else value.data


def _line(value: bool | int | float | str) -> str:
    text = f"{value:g}" if isinstance(value, float) else _said(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _said(text: str) -> str:
    """Write a stranger's words so that a terminal takes them for nothing else."""
    return ascii(text)[1:-1]


def _axes(shape: list[int]) -> str:
    return " x ".join(map(str, shape))
