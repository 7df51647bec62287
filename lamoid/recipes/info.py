"""Shows what a model is made of: read from its description and the headers of its files, none of its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.families.table import family_of
from lamoid.assembly.model import empty_model
from lamoid.assembly.paths import walk
from lamoid.assembly.spec import ModelSpec
from lamoid.contained import is_there
from lamoid.recipes.gguf_info import gguf_info
from lamoid.recipes.shown import Shown
from lamoid.recipes.spec_source import read_source
from lamoid.recipes.spec_tree import Node, tree_lines, tree_of
from lamoid.verbs.llama import TOKENIZER_FILES
from lamoid.weights.folder import ModelFolder


class Info(Shown, frozen=True):
    """A model in figures.

    ``parameters`` is worked out from the spec, ``stored_numbers`` counted in the files' headers: they are equal.
    FLOPs count a multiply-add as two, for one token of a forward pass: the mean over a text of the whole context, and
    that of a first token. A cache keeps ``cache_bytes_per_token``, and of a text ``state_bytes_per_text`` whatever its
    length, in the stored dtype. ``layers`` counts the blocks, however they are connected.
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
    state_bytes_per_text: int
    is_causal: bool
    heads: list[str]
    has_tokenizer: bool
    remarks: list[str]
    tree: Node

    def lines(self) -> list[str]:
        """Write figures, then the tree; equal neighbouring blocks stand there once."""
        kept = f"{self.cache_bytes_per_token:,}" if self.is_causal else "none: it sees later tokens"
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
            ("KV bytes a token", kept),
        ]
        if self.state_bytes_per_text:
            figures.append(("state bytes", f"{self.state_bytes_per_text:,} a text, however long"))
        if len(self.heads) > 1:
            figures.append(("heads", ", ".join(self.heads)))
        told = [f"{name:<17} {text}" for name, text in figures]
        return [self.path, *told, *self.remarks, "", *tree_lines(self.tree)]


def show(
    model: Annotated[Path, "Model folder, a spec as .json or .toml, or a .gguf file."],
    *,
    ignore_field: Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."] = (),
) -> Shown:
    """Describe a model, or what a GGUF file holds. Raises ``InputError`` for what is neither."""
    if model.suffix == ".gguf" and not model.is_dir():
        return gguf_info(model)
    return info(model, ignore_field=ignore_field)


def info(
    model: Annotated[Path, "Model folder, or a spec as .json or .toml."],
    *,
    ignore_field: Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."] = (),
) -> Info:
    """Describe a model without reading its weights. Raises ``InputError`` for what is no model."""
    path = Path(model)
    spec, folder = read_source(path, ignore_field)
    return _describe(path, spec, folder)


def _describe(path: Path, spec: ModelSpec, folder: ModelFolder | None) -> Info:
    kin = family_of(spec) if folder is None else None
    family = kin.family if kin is not None else folder.family if folder is not None else None
    parameters, tree = spec.parameters(), tree_of(empty_model(spec))
    dtypes = {torch.float32: tree.parameters} if folder is None else _count(folder)
    widest = max(dtypes, key=lambda dtype: dtype.itemsize)
    return Info(
        path=str(path),
        family="lamoid" if family is None else family.model_type,
        dtypes=[_name(dtype) for dtype in dtypes],
        parameters=parameters,
        stored_numbers=sum(dtypes.values()),
        stored_bytes=sum(dtype.itemsize * count for dtype, count in dtypes.items()),
        width=spec.width,
        layers=sum(isinstance(part, BlockSpec) for _, part in walk(spec.blocks)),
        vocab=spec.vocab,
        context=spec.context,
        flops_per_token=spec.flops(),
        flops_of_first_token=spec.flops(1),
        cache_bytes_per_token=spec.cache_numbers() * widest.itemsize,
        state_bytes_per_text=spec.state_numbers() * widest.itemsize,
        is_causal=spec.not_causal is None,
        heads=list(spec.heads),
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


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
