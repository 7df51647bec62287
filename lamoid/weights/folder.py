"""Opens, loads and saves model folders in the layout of Hugging Face."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lamoid.assembly.families.family import Family
from lamoid.assembly.families.table import family_of
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.sharing import put_parameters
from lamoid.assembly.spec import ModelSpec
from lamoid.contained import is_there
from lamoid.errors import InputError
from lamoid.weights.config import describe, read_description
from lamoid.weights.durable import MANIFEST, Draft, sweep, verify
from lamoid.weights.names import NameMap, family_renames, joined_shape, match_names
from lamoid.weights.read import Tensors, open_tensors
from lamoid.weights.write import SHARD_BYTES, TensorWriter


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was checked as a whole; its numbers are still on the disk.

    ``family`` is None for a model that keeps lamoid's own names. ``spec`` is the configuration's, with heads tied or
    not as the tensors are. ``start`` and ``ends`` are token ids of the configuration; ``end`` is the first of the
    latter. ``ignored`` names tensors that carry no weights, ``remarks`` says what was read otherwise than written.
    """

    path: Path
    config: dict[str, Any]
    family: Family | None
    spec: ModelSpec
    tensors: Tensors
    generation: dict[str, Any]
    start: int | None
    ends: tuple[int, ...]
    names: NameMap
    remarks: tuple[str, ...]

    @property
    def end(self) -> int | None:
        """The id of the token that ends a text, the first if there are several; None if there is none."""
        return self.ends[0] if self.ends else None

    @property
    def ignored(self) -> tuple[str, ...]:
        """The names of tensors that carry no weights."""
        return self.names.ignored

    def parameter(self, name: str, *, views: bool = False) -> Tensor:
        """Give a parameter of the model by lamoid's name: mapped from the file where it lies there as it is.

        One that lies there joined with others or transposed is copied, or with ``views`` seen through its strides.
        """
        part = self.names.parts[name]
        tensor = self.tensors.tensor(part.theirs)
        turned = tensor.t() if part.transposed else tensor
        view = turned if part.is_whole else turned[part.first : part.first + part.rows]
        if views or (part.is_whole and view.is_contiguous()):
            return view
        return view.clone(memory_format=torch.contiguous_format)


def open_folder(path: Path | str) -> ModelFolder:
    """Open a model folder: config.json (transformers 4 or 5, or lamoid's own with spec.json) and safetensors.

    Read JSON and headers only; where there is a manifest, every size is compared with it. Raise InputError naming
    file, field or tensor for whatever does not fit.
    """
    path = Path(path)
    if not path.exists():
        sweep(path)  # an overwriting that was killed may have left the old folder under another name
    if not path.is_dir():
        what = "it is a file, not a folder" if path.exists() else "there is no such folder"
        raise InputError(path, what, "Give a folder that holds config.json and model.safetensors")
    if not is_there(path, "config.json"):
        inner = path / "model"
        cure = f"Give {inner}" if (inner / "config.json").exists() else "Give a folder that holds a model"
        raise InputError(path / "config.json", "the file does not exist", cure)
    description = read_description(path)
    tensors = open_tensors(path)
    names = match_names(description.family, description.spec, tensors, path)
    if (path / MANIFEST).exists():
        verify(path, hashes=False)
    return ModelFolder(
        path=path,
        config=description.config,
        family=description.family,
        spec=names.spec,
        tensors=tensors,
        generation=description.generation,
        start=description.start,
        ends=description.ends,
        names=names,
        remarks=description.remarks + names.remarks,
    )


def load_model(
    folder: ModelFolder,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    views: bool = False,
) -> LanguageModel:
    """Build the model and give it the folder's weights.

    With ``dtype`` None the stored one is kept (tensors of several are all widened to the widest) and weights on the
    CPU are mapped: nothing is read before it is used, and processes share it. Parameters that the file holds joined
    or transposed are copied.

    ``views`` is for measuring only: such parameters too are mapped, as views that are not contiguous, so that on the
    CPU and in the stored dtype a model needs no memory of its size. It is not to be trained.
    """
    model = empty_model(folder.spec)
    if dtype is None:
        for part in folder.names.parts.values():
            stored = folder.tensors[part.theirs].dtype
            dtype = stored if dtype is None else torch.promote_types(dtype, stored)
    state = {name: folder.parameter(name, views=views).to(device, dtype) for name in folder.names.parts}
    put_parameters(model, state)
    return model


def save_model(
    model: LanguageModel,
    draft: Draft,
    *,
    generation: dict[str, Any] | None,
    tokenizer_files: dict[str, bytes],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a whole model folder that lamoid and transformers read: JSON, weights in their own dtype, tokenizer.

    A model that no family fits is written under lamoid's own names, with model_type "lamoid".
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    rows = family_renames(family_of(model.spec), model.spec, shapes)
    infos = [(row.theirs, parameters[row.ours[0]].dtype, joined_shape(row, shapes)) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: -infos[index][1].itemsize)  # keeps every tensor aligned
    write_description(draft, model.spec, dtype=model.dtype, generation=generation, tokenizer_files=tokenizer_files)
    writer = TensorWriter(draft, [infos[index] for index in order], shard_bytes=shard_bytes)
    for index in order:
        parts = [parameters[name] for name in rows[index].ours]
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        writer.write(joined.t() if rows[index].transposed else joined)
    writer.finish()


def write_description(
    draft: Draft,
    spec: ModelSpec,
    *,
    dtype: torch.dtype,
    generation: dict[str, Any] | None,
    tokenizer_files: dict[str, bytes],
) -> None:
    """Write all of a model folder but its weights."""
    files = describe(spec, dtype=str(dtype).removeprefix("torch."), generation=generation)
    for name, data in {**tokenizer_files, **files}.items():
        draft.write(name, data)
