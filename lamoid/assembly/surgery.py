"""Surgery: parts of a live model are exchanged, and every other parameter stays the same object, bit for bit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import nn

from lamoid.assembly.adapter import connect
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.paths import Spec, children, part_at
from lamoid.assembly.sharing import put_parameters
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.written import read_written
from lamoid.errors import InputError

Parameters = Mapping[str, nn.Parameter]
Rename = Callable[[str], str | None]
Fill = Callable[[Parameters, Parameters], None]


@dataclass(frozen=True)
class Change:
    """What surgery did to a model's parameters, each called by the first name that the model has for it.

    ``kept`` are the same objects, by their old names with the new ones. ``added`` are new ones; those in ``copied``
    began as what the old name said there was, the others were drawn. ``removed`` are old names without a successor.
    ``is_preserving``: the model's answers are the same as before. ``spec`` is the model's from now on (or a group's).
    """

    spec: Spec
    kept: dict[str, str]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    copied: dict[str, str]
    is_preserving: bool = False


def replace(model: LanguageModel, path: str, spec: Any, *, seed: int = 0) -> Change:
    """Put the part that ``spec`` describes where ``path`` leads (``blocks.3.mixer``), in the live model.

    What stands outside of the path stays. Inside of it, parameters stay whose modules are of the same kinds from the
    path on and have the same shape; the others are drawn by ``initialise`` with ``seed``. ``spec`` may also be written
    as a spec file has it. Raise ``InputError``, the model being unchanged, for a path that does not lead anywhere, a
    spec that cannot stand there, and one that would change the shape of a parameter elsewhere.
    """
    return transplant(model, empty_model(_edited(model.spec, path, spec)), inside=(path,), seed=seed)


@torch.no_grad()
def transplant(
    model: LanguageModel,
    fresh: LanguageModel,
    *,
    before: Rename = lambda name: name,
    inside: Sequence[str] = (),
    fill: Fill | None = None,
    seed: int = 0,
    is_preserving: bool = False,
) -> Change:
    """Make ``model`` what ``fresh``, built without numbers, is, with as many of its own parameters as fit.

    ``before`` says how a module or parameter of the new model was called in the old one, ``None`` if it is new; a
    parameter that had another shape is an ``InputError`` unless it stands ``inside`` one of these paths. ``fill`` sets
    numbers after the new parameters were drawn: it is handed those of the new and of the old model, by all names.
    """
    old = dict(model.named_parameters(remove_duplicate=False))
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    sources = _sources(model, fresh, before, inside)
    kept: dict[str, str] = {}
    copied: dict[str, str] = {}
    chosen: dict[str, nn.Parameter] = {}
    for name, empty in fresh.named_parameters():
        source = sources.get(name)
        place = None if source is None else first[id(old[source])]
        if source is not None and place is not None and place not in kept:
            kept[place], chosen[name] = name, old[source]
        elif source is not None and place is not None:
            lent = old[source]
            copied[name], chosen[name] = place, nn.Parameter(lent.detach().clone(), lent.requires_grad)
        else:
            chosen[name] = nn.Parameter(torch.empty(empty.shape, dtype=model.dtype, device=model.device))
    staying = set(kept.values())
    added = tuple(name for name in chosen if name not in staying)
    put_parameters(fresh, chosen)
    if model.device.type != "meta":
        initialise(fresh, seed, only={*added} - copied.keys())
    if fill is not None:
        fill(dict(fresh.named_parameters(remove_duplicate=False)), old)
    removed = tuple(name for name in first.values() if name not in kept)
    _install(model, fresh, before)
    return Change(fresh.spec, kept, added, removed, copied, is_preserving)


def _edited(spec: ModelSpec, path: str, part: Any) -> ModelSpec:
    """Give the model's spec with another part at ``path``, checked as if it had been written so."""
    part_at(spec, path)
    try:
        tree, written = _plain(spec), _plain(part)
    except (TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise InputError(path or "spec", f"is to be what is no spec: {error}", "give a spec") from error
    *above, last = path.split(".") if path else [""]
    if path:
        at = tree
        for piece in above:
            at = at[int(piece)] if isinstance(at, list) else at[piece]
        at[int(last) if isinstance(at, list) else last] = written
    return read_written(tree if path else written, ModelSpec, "replace")


def _plain(part: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(part))


def _sources(model: LanguageModel, fresh: LanguageModel, before: Rename, inside: Sequence[str]) -> dict[str, str]:
    """Give, for each new parameter that an old one can be, the name of that; a shared one goes by its first module."""
    old = dict(model.named_parameters(remove_duplicate=False))
    ours, theirs = dict(model.named_modules()), dict(fresh.named_modules())
    first = {id(parameter): name for name, parameter in fresh.named_parameters()}
    found: dict[str, str] = {}
    for name, parameter in fresh.named_parameters(remove_duplicate=False):
        place, whole = before(name), first[id(parameter)]
        if place not in old or whole in found:
            continue
        exchanged = next((path for path in inside if _is_within(name, path)), None)
        if place == name and not _are_alike(ours, theirs, name, exchanged):
            continue
        if old[place].shape == parameter.shape:
            found[whole] = place
        elif exchanged is None:
            shapes = (" x ".join(map(str, tensor.shape)) for tensor in (old[place], parameter))
            problem = "would turn from {} to {} numbers".format(*shapes)
            raise InputError(name, problem, "replace the part that it belongs to as well, or keep the widths")
    return found


def _are_alike(
    ours: Mapping[str, nn.Module], theirs: Mapping[str, nn.Module], name: str, exchanged: str | None
) -> bool:
    """Are the modules around a parameter of the same kinds: its own and, in an exchanged part, those around that?"""
    place = name.rpartition(".")[0]
    while True:
        if type(ours.get(place)) is not type(theirs.get(place)):
            return False
        if exchanged is None or place in (exchanged, "") or not _is_within(place, exchanged):
            return True
        place = place.rpartition(".")[0]


def _is_within(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")


def _install(model: LanguageModel, fresh: LanguageModel, before: Rename) -> None:
    """Move the new modules into the model; one whose part of the spec stayed as it was is the old module itself."""
    parameters = dict(fresh.named_parameters(remove_duplicate=False))
    fresh.train(model.training)
    old, staying, used = dict(model.named_modules()), [], set()
    for path, module in list(fresh.named_modules()):
        place = before(path) if path else None
        if place not in old or place in used or path.startswith(tuple(f"{other}." for other in staying)):
            continue
        if type(old[place]) is type(module) and _stays(fresh, path, model, place, old[place]):
            staying.append(path)
            used |= {place, *(f"{place}.{name}" for name, _ in old[place].named_modules() if name)}
            _set_at(fresh, path, old[place])
    for name, parameter in parameters.items():
        _set_at(fresh, name, parameter)
    for name, child in fresh.named_children():
        setattr(model, name, child)
    model.spec = fresh.spec
    model.choice = connect(model, model.choice.active)


def _stays(fresh: LanguageModel, path: str, model: LanguageModel, place: str, module: nn.Module) -> bool:
    """Is the part described by the same words, and has it the same shapes?"""
    new, old = _described(fresh.spec, path), _described(model.spec, place)
    if new is None or new != old:
        return False
    shapes = [
        {name: tensor.shape for name, tensor in part.named_parameters(remove_duplicate=False)}
        for part in (module, fresh.get_submodule(path))
    ]
    return shapes[0] == shapes[1]


def _described(spec: Spec, path: str) -> Spec:
    """Give the part of the spec at a module's path; ``None`` for a module that its owner describes."""
    for piece in path.split("."):
        spec = dict(children(spec)).get(piece)
    return spec


def _set_at(model: nn.Module, path: str, part: nn.Module | nn.Parameter) -> None:
    owner, _, key = path.rpartition(".")
    setattr(model.get_submodule(owner), key, part)
