"""Measures on text what a fusion rule needs of a member besides its numbers, and saves it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.model import empty_model
from lamoid.errors import InputError
from lamoid.fusion.statistics.fisher import fisher_information
from lamoid.fusion.statistics.gram import gathering_grams
from lamoid.recipes.measuring import read_texts
from lamoid.recipes.progress import Progress
from lamoid.recipes.room import check_room
from lamoid.recipes.statistic_examples import ask, check_measurable, losses_of, read_examples
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.durable import Draft, durable_folder
from lamoid.weights.folder import ModelFolder, load_model, open_folder
from lamoid.weights.header import TensorInfo
from lamoid.weights.held import HeldTensors
from lamoid.weights.names import Part
from lamoid.weights.read import Tensors
from lamoid.weights.write import write_tensors

Kind = Literal["fisher", "gram"]
EXAMPLES = 256


class Statistics(msgspec.Struct, frozen=True):
    """What was measured, of how many windows of text, and where it lies."""

    out: str
    model: str
    kind: str
    tensors: int
    examples: int

    def lines(self) -> list[str]:
        """Give what a person reads."""
        return [
            f"{self.out}: {self.kind} of {self.tensors} tensors of {self.model}, from {self.examples} windows of text"
        ]


def statistics(
    model: Annotated[Path, "Model folder."],
    *,
    on: Annotated[str | Path | Sequence[str | Path], "Text of what the model is for: a file, a folder or a glob."],
    out: Annotated[Path, "Folder for the statistics."],
    kind: Annotated[str, "fisher (for the rule fisher) or gram (for regmean)."] = "fisher",
    examples: Annotated[int, "Windows of text that are read at most."] = EXAMPLES,
    separator: Annotated[str | None, "What parts the documents of a text file."] = None,
    field: Annotated[str, "Field of a JSONL file that holds the text."] = "text",
    overwrite: Annotated[bool, "Replace what is there."] = False,
    progress: Progress | None = None,
) -> Statistics:
    """Measure a member's Fisher information or its inputs' products on text, for fusions by ``fisher`` and ``regmean``.

    A classifier needs no labels. Raises ``InputError`` for a model that has no loss on a text alone, has no tokenizer
    or does not fit into memory, and for no text.
    """
    if kind not in ("fisher", "gram"):
        raise InputError("kind", f"is {kind!r}", "choose fisher or gram")
    if examples < 1:
        raise InputError("examples", f"is {examples}", "read at least 1 window")
    folder = open_folder(model)
    texts = read_texts(on, separator=separator, field=field)
    with durable_folder(out, overwrite=overwrite) as draft:
        tensors, count = measure_statistics(folder, texts, kind, examples, draft, progress)
    return Statistics(str(out), str(model), kind, tensors, count)


def measure_statistics(
    folder: ModelFolder, texts: Sequence[str], kind: str, examples: int, draft: Draft, progress: Progress | None = None
) -> tuple[int, int]:
    """Write the statistic of a model on texts into a draft, by the tensors' names in the model's files.

    Give the number of tensors and of windows. Products of a tensor that is stored turned have a first axis of 1.
    """
    check_measurable(folder.spec, kind)
    check_room(folder.spec.parameters(), 12 if kind == "fisher" else 8, "measuring it")
    rows = read_examples(Tokenizer.read(folder.path), texts, folder.spec, examples)
    loaded = load_model(folder, dtype=torch.float32)
    if progress is not None:
        progress.start(f"{kind} of {folder.path}", len(rows), "windows")
    counted = _counted(rows, progress)
    if kind == "fisher":
        found = _as_stored(folder, fisher_information(loaded, losses_of(loaded, counted)))
    else:
        with gathering_grams(loaded) as grams:
            for row in counted:
                ask(loaded, row)
        found = by_file_name(folder, grams)
    if progress is not None:
        progress.finish()
    write_tensors(draft, found)
    return len(found), len(rows)


def _counted(rows: Sequence[Tensor], progress: Progress | None) -> Iterator[Tensor]:
    for row in rows:
        yield row
        if progress is not None:
            progress.advance(1)


def _as_stored(folder: ModelFolder, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put parameters' numbers where the model's files have them."""
    stored: dict[str, Tensor] = {}
    for name, part in folder.names.parts.items():
        if name in found:
            whole = stored.setdefault(part.theirs, torch.zeros(folder.tensors[part.theirs].shape))
            _place(part, whole, found[name])
    return stored


def _place(part: Part, whole: Tensor, numbers: Tensor) -> None:
    turned = whole.t() if part.transposed else whole
    if part.is_whole:
        turned.copy_(numbers.view(turned.shape))
    elif part.heads == 1:
        turned[part.first : part.first + part.rows].copy_(numbers)
    else:
        first, rows = part.first // part.heads, part.rows // part.heads
        turned.unflatten(0, (part.heads, -1))[:, first : first + rows].copy_(numbers.unflatten(0, (part.heads, -1)))


def by_file_name(folder: ModelFolder, grams: dict[str, Tensor]) -> dict[str, Tensor]:
    """Call products by the tensors in the model's files; parts of one tensor read the same."""
    found: dict[str, Tensor] = {}
    for name, part in folder.names.parts.items():
        if name in grams and part.theirs not in found:
            found[part.theirs] = grams[name][None] if part.transposed else grams[name]
    return found


def expected_products(folder: ModelFolder) -> Tensors:
    """Give the shapes of the products that a model's maps can have, without numbers."""
    maps = {name: module for name, module in empty_model(folder.spec).named_modules() if isinstance(module, nn.Linear)}
    found = {f"{name}.weight": torch.empty((x.in_features,) * 2, device="meta") for name, x in maps.items()}
    return held(by_file_name(folder, found))


def held(tensors: Mapping[str, Tensor]) -> HeldTensors:
    """Give tensors in memory as those of files."""
    infos = {
        name: TensorInfo(name, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes, Path())
        for name, tensor in tensors.items()
    }
    return HeldTensors(infos, tensors)
