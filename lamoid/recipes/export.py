"""Writes a model for other programs: as a GGUF file, which llama.cpp reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch

from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.text.gguf_vocabulary import vocabulary_of
from lamoid.text.tokenizer import Tokenizer
from lamoid.verbs.llama import TOKENIZER_FILES
from lamoid.weights.durable_stream import durable_stream
from lamoid.weights.folder import ModelFolder, open_folder
from lamoid.weights.gguf_kinds import F32, KINDS, Value
from lamoid.weights.gguf_metadata import FILE_TYPES, describe_model, describe_vocabulary, rope_tensors
from lamoid.weights.gguf_plan import Plan, numbers_of, plan_file
from lamoid.weights.gguf_write import GgufInfo, GgufWriter

Type = Literal["f32", "f16", "bf16", "q8_0"]


class Exported(msgspec.Struct, frozen=True):
    """What was written; ``remarks`` say where llama.cpp will do otherwise than Lamoid."""

    out: str
    model: str
    format: str
    type: str
    architecture: str
    tokenizer: str
    tensors: int
    bytes: int
    context: int
    remarks: list[str]

    def lines(self) -> list[str]:
        """Give what a person reads."""
        told = f"{self.out}: {self.tensors} tensors of {self.type}, {self.bytes:,} bytes"
        return [f"{told}, as llama.cpp's {self.architecture} with a {self.tokenizer} tokenizer", *self.remarks]


def export(
    model: Annotated[Path, "Model folder."],
    *,
    out: Annotated[Path, "File to write, FILE.gguf."],
    format: Annotated[Literal["gguf"], "Format of the file."] = "gguf",
    type: Annotated[Type, "Kind of numbers of the matrices; the rest stays f32."] = "f16",
    ignore_field: Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."] = (),
    overwrite: Annotated[bool, "Replace a file that is there."] = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a model with its tokenizer as one file that llama.cpp runs; its f32 writes the same greedy text.

    Numbers are streamed: no memory of the model's size is needed. Raises ``InputError`` for a family, a scaling of
    positions or a tokenizer that llama.cpp has not, for numbers that the type cannot hold, and for a file that is
    there; ``NotCommitted`` if the disk fails. Nothing is left half-written.
    """
    given = (
        ("format", format, format == "gguf"),
        ("type", type, type in FILE_TYPES),
        ("out", out, out.suffix == ".gguf"),
    )
    for culprit, value, fits in given:
        if not fits:
            raise InputError(culprit, f"is {str(value)!r}", "write out=FILE.gguf, with type f32, f16, bf16 or q8_0")
    kind = KINDS[type]
    folder = open_folder(model, ignore_fields=ignore_field)
    plan = plan_file(folder, kind)
    if not any((model / name).exists() for name in TOKENIZER_FILES):
        raise InputError(model, "holds no tokenizer, which a GGUF file needs", "put its tokenizer.json there")
    vocabulary = vocabulary_of(_read_tokenizer(folder), folder.spec.vocab)
    metadata = describe_model(folder.spec, plan, kind, model.absolute().name)
    metadata |= describe_vocabulary(vocabulary, folder.ends)
    _write(folder, plan, metadata, out, overwrite, progress)
    return Exported(
        out=str(out),
        model=str(model),
        format=format,
        type=type,
        architecture=plan.arch.name,
        tokenizer=vocabulary.model,
        tensors=len(plan.tensors) + len(rope_tensors(plan)),
        bytes=out.stat().st_size,
        context=plan.context,
        remarks=[*folder.remarks, *plan.remarks, *vocabulary.remarks],
    )


def _read_tokenizer(folder: ModelFolder) -> Tokenizer:
    """Read the tokenizer as ``lamoid.load`` does: ends that it does not name are those of the configuration."""
    tokenizer = Tokenizer.read(folder.path)
    if tokenizer.end is not None or (folder.start is None and folder.end is None):
        return tokenizer
    start = folder.start if tokenizer.start is None else tokenizer.start
    return Tokenizer.read(folder.path, start=start, end=folder.end)


def _write(
    folder: ModelFolder, plan: Plan, metadata: dict[str, Value], out: Path, overwrite: bool, progress: Progress | None
) -> None:
    turns = rope_tensors(plan)
    infos = [GgufInfo(name, F32, tuple(factors.shape)) for name, factors in turns.items()]
    infos += [planned.info for planned in plan.tensors]
    if progress:
        progress.start("export", sum(info.elements for info in infos), "numbers")
    with torch.no_grad(), durable_stream(out, overwrite=overwrite) as file:
        writer = GgufWriter(file, metadata, infos)
        for factors in turns.values():
            writer.write(factors)
        for planned in plan.tensors:
            for numbers in numbers_of(folder, planned):
                writer.write(numbers)
                if progress:
                    progress.advance(numbers.numel())
        writer.finish()
    if progress:
        progress.finish()
