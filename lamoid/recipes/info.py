"""Shows what a model is made of: read from its description and the headers of its files, none of its weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from torch import nn

from lamoid.assembly.families.table import family_of
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec, read_spec
from lamoid.contained import is_there
from lamoid.verbs.llama import TOKENIZER_FILES
from lamoid.weights.folder import ModelFolder, open_folder


class Node(msgspec.Struct, frozen=True):
    """A module, or a tensor if it has a shape; ``parameters`` counts everything in it."""

    name: str
    kind: str
    parameters: int
    shape: tuple[int, ...] | None = None
    parts: list["Node"] = []


class Info(msgspec.Struct, frozen=True):
    """A model in figures.

    ``parameters`` is worked out from the spec, ``stored_numbers`` counted in the files' headers: they are equal.
    FLOPs count a multiply-add as two, for one token of a forward pass: the mean over a text of the whole context, and
    that of a first token. A cache keeps ``cache_bytes_per_token`` in the stored dtype.
    """

    path: str
    family: str
    dtypes: list[str]
    parameters: int
    stored_numbers: int
    stored_bytes: int
    width: int
    layers: int
    vocab: int
    context: int
    flops_per_token: int
    flops_of_first_token: int
    cache_bytes_per_token: int
    has_tokenizer: bool
    remarks: list[str]
    tree: Node

    def lines(self) -> list[str]:
        """Write figures, then the tree; equal neighbouring blocks stand there once."""
        figures = [
            ("family", self.family),
            ("dtype", ", ".join(self.dtypes)),
            ("parameters", f"{self.parameters:,} ({self.stored_bytes:,} bytes)"),
            ("width, layers", f"{self.width}, {self.layers}"),
            ("vocabulary", f"{self.vocab:,} tokens{'' if self.has_tokenizer else ', no tokenizer here'}"),
            ("context", f"{self.context:,} tokens"),
            (
                "FLOPs a token",
                f"{self.flops_per_token:,} in a full context, {self.flops_of_first_token:,} at its start",
            ),
            ("KV bytes a token", f"{self.cache_bytes_per_token:,}"),
        ]
        told = [f"{name:<17} {text}" for name, text in figures]
        return [self.path, *told, *self.remarks, "", *_draw(self.tree, 0)]


def info(model: Annotated[Path, "Model folder, or a spec as .json or .toml."]) -> Info:
    """Describe a model without reading its weights. Raises ``InputError`` for what is no model."""
    path = Path(model)
    if path.is_file() and path.suffix in (".json", ".toml"):
        return _describe(path, read_spec(path), None)
    folder = open_folder(path)
    return _describe(path, folder.spec, folder)


def _describe(path: Path, spec: ModelSpec, folder: ModelFolder | None) -> Info:
    family = family_of(spec) if folder is None else folder.family
    if folder is None:
        dtypes, numbers = {torch.float32: spec.parameters()}, spec.parameters()
    else:
        dtypes, numbers = _count(folder), sum(_count(folder).values())
    widest = max(dtypes, key=lambda dtype: dtype.itemsize)
    with torch.device("meta"):
        tree = _tree("model", LanguageModel(spec))
    return Info(
        path=str(path),
        family="lamoid" if family is None else family.model_type,
        dtypes=[_name(dtype) for dtype in dtypes],
        parameters=spec.parameters(),
        stored_numbers=numbers,
        stored_bytes=sum(dtype.itemsize * count for dtype, count in dtypes.items()),
        width=spec.width,
        layers=len(spec.blocks),
        vocab=spec.vocab,
        context=spec.context,
        flops_per_token=spec.flops(),
        flops_of_first_token=spec.flops(1),
        cache_bytes_per_token=spec.cache_numbers() * widest.itemsize,
        has_tokenizer=any(is_there(path, name) for name in TOKENIZER_FILES),
        remarks=[] if folder is None else list(folder.remarks),
        tree=tree,
    )


def _count(folder: ModelFolder) -> dict[torch.dtype, int]:
    """Count the stored numbers of each dtype; a tensor that several parameters are cut from counts once."""
    counts: dict[torch.dtype, int] = {}
    for name in sorted({part.theirs for part in folder.names.parts.values()}):
        tensor = folder.tensors[name]
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
    return counts


def _tree(name: str, module: nn.Module) -> Node:
    own = [
        Node(key, "tensor", tensor.numel(), tuple(tensor.shape))
        for key, tensor in module.named_parameters(recurse=False)
    ]
    parts = own + [_tree(key, child) for key, child in module.named_children()]
    return Node(name, type(module).__name__, sum(part.parameters for part in parts), None, parts)


def _draw(node: Node, depth: int) -> Iterator[str]:
    """Write a node and what is in it, one line each; a module with nothing but a tensor takes one line."""
    tensors = [part for part in node.parts if part.shape is not None]
    if len(node.parts) == len(tensors):
        shapes = ", ".join(f"{part.name} {' x '.join(map(str, part.shape or ()))}" for part in tensors)
        yield _line(node, depth, shapes or "nothing of its own")
        return
    yield _line(node, depth, "")
    for first, last, count in _runs(node.parts):
        name = first.name if count == 1 else f"{first.name} .. {last.name}"
        note = "" if count == 1 else f" each, {count} alike"
        lines = _draw(Node(name, first.kind, first.parameters, first.shape, first.parts), depth + 1)
        yield next(iter(lines)) + note
        yield from lines


def _runs(parts: list[Node]) -> Iterator[tuple[Node, Node, int]]:
    """Give the first, the last and the number of numbered neighbours that differ in nothing but their number."""
    begin = 0
    for index, part in enumerate(parts):
        after = parts[index + 1] if index + 1 < len(parts) else None
        if after is None or not after.name.isdigit() or (after.kind, after.parts) != (part.kind, part.parts):
            yield parts[begin], part, index + 1 - begin
            begin = index + 1


def _line(node: Node, depth: int, shapes: str) -> str:
    label = f"{'  ' * depth}{node.name} ({node.kind})"
    return f"{label:<38} {node.parameters:>15,}  {shapes}".rstrip()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
