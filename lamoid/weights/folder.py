"""Opens, loads and saves model folders in the layout of Hugging Face."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.table import Kinship, family_of
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.sharing import put_parameters
from lamoid.assembly.spec import ModelSpec
from lamoid.contained import is_there
from lamoid.errors import InputError
from lamoid.weights.adapter_config import CONFIG as ADAPTER
from lamoid.weights.config import describe, read_description
from lamoid.weights.durable import MANIFEST, Draft, sweep, verify
from lamoid.weights.names import NameMap, Naming, join, joined_shape, match_names
from lamoid.weights.read import Tensors, open_tensors
from lamoid.weights.write import SHARD_BYTES, TensorWriter


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was checked as a whole; its numbers are still on the disk.

    ``family`` and ``architecture`` are None for a model that keeps lamoid's own names. ``spec`` is the configuration's,
    with heads tied or not as the tensors are. ``start`` and ``ends`` are token ids of the configuration; ``end`` is the
    first of the latter. ``ignored`` names tensors that carry no weights, ``remarks`` says what was read otherwise than
    written.
    """

    path: Path
    config: dict[str, Any]
    family: Family | None
    architecture: Architecture | None
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

        One that lies there joined with others or transposed is copied, or with ``views`` seen through its strides; one
        that lies there head by head is always copied.
        """
        part = self.names.parts[name]
        view = part.cut(self.tensors.tensor(part.theirs))
        if views or (part.is_whole and view.is_contiguous()):
            return view
        return view.clone(memory_format=torch.contiguous_format)


def open_folder(path: Path | str, *, ignore_fields: Sequence[str] = ()) -> ModelFolder:
    """Open a model folder: config.json (transformers 4 or 5, or lamoid's own with spec.json) and safetensors.

    Read JSON and headers only; where there is a manifest, every size is compared with it. Fields of config.json that
    lamoid does not know are refused but for ``ignore_fields``, which are recorded in the remarks. Raise InputError
    naming file, field or tensor for whatever does not fit.
    """
    path = Path(path)
    if not path.exists():
        sweep(path)  # an overwriting that was killed may have left the old folder under another name
    if not path.is_dir():
        what = "it is a file, not a folder" if path.exists() else "there is no such folder"
        raise InputError(path, what, "Give a folder that holds config.json and model.safetensors")
    if not is_there(path, "config.json"):
        if is_there(path, ADAPTER):
            cure = "make it one with its base: lamoid adapter merge BASE ADAPTER --out FOLDER"
            raise InputError(path, "it holds an adapter, not a whole model", cure)
        inner = path / "model"
        cure = f"Give {inner}" if (inner / "config.json").exists() else "Give a folder that holds a model"
        raise InputError(path / "config.json", "the file does not exist", cure)
    description = read_description(path, ignore_fields)
    tensors = open_tensors(path)
    names = match_names(description.family, description.architecture, description.spec, tensors, path)
    if (path / MANIFEST).exists():
        verify(path, hashes=False)
    return ModelFolder(
        path=path,
        config=description.config,
        family=description.family,
        architecture=description.architecture,
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
    family: Family | None = None,
) -> None:
    """Write a whole model folder that lamoid and transformers read: JSON, weights in their own dtype, tokenizer.

    It is written as one of ``family`` if it fits, else of the first that does; a model that none fits is written under
    lamoid's own names, with model_type "lamoid".
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    kin = family_of(model.spec, family)
    naming = Naming() if kin is None else Naming(kin.family, kin.architecture)
    rows = [(row, name) for row in naming.rows(model.spec, shapes) for name in (row.theirs, *row.also)]
    infos = [(name, parameters[row.ours[0]].dtype, joined_shape(row, shapes)) for row, name in rows]
    order = sorted(range(len(rows)), key=lambda index: -infos[index][1].itemsize)  # keeps every tensor aligned
    _write_files(draft, model.spec, kin, model.dtype, generation, tokenizer_files)
    writer = TensorWriter(draft, [infos[index] for index in order], shard_bytes=shard_bytes)
    for index in order:
        writer.write(join(rows[index][0], parameters))
    writer.finish()


def write_description(
    draft: Draft,
    spec: ModelSpec,
    *,
    dtype: torch.dtype,
    generation: dict[str, Any] | None,
    tokenizer_files: dict[str, bytes],
    family: Family | None = None,
) -> None:
    """Write all of a model folder but its weights."""
    _write_files(draft, spec, family_of(spec, family), dtype, generation, tokenizer_files)


def _write_files(
    draft: Draft,
    spec: ModelSpec,
    kin: Kinship | None,
    dtype: torch.dtype,
    generation: dict[str, Any] | None,
    tokenizer_files: dict[str, bytes],
) -> None:
    files = describe(spec, kin, dtype=str(dtype).removeprefix("torch."), generation=generation)
    for name, data in {**tokenizer_files, **files}.items():
        draft.write(name, data)
