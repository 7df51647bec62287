"""Makes one model of a model and its adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import torch

from lamoid.assembly.adapter_merge import merged
from lamoid.errors import InputError
from lamoid.recipes.room import check_room
from lamoid.verbs.llama import TOKENIZER_FILES, load
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder, save_model


class Merged(msgspec.Struct, frozen=True):
    """The merged model, and with which weight each adapter is in it."""

    out: str
    model: str
    weights: dict[str, float]
    parameters: int

    def lines(self) -> list[str]:
        """Give what a person reads."""
        said = " + ".join(f"{weight:g} x {name}" for name, weight in self.weights.items())
        return [f"{self.out}: {self.parameters} parameters, {self.model} + {said}"]


def adapter_merge(
    model: Annotated[Path, "Model folder, the adapters' base."],
    adapters: Annotated[Sequence[Path], "Folders of adapters, in peft's layout."],
    *,
    out: Annotated[Path, "Folder of the merged model."],
    weight: Annotated[Sequence[float], "How much each adapter counts, in their order; 1 if not given."] = (),
    overwrite: Annotated[bool, "Replace a model that is there."] = False,
) -> Merged:
    """Change a model's matrices by what its adapters add to them, times their weights, and save it.

    The sum is computed in float32 or wider and rounded once to the model's own dtype. Raises ``InputError`` for
    adapters that do not fit the model, and weights that are not one for each.
    """
    if not adapters:
        raise InputError("adapters", "are none", "name at least one folder")
    if weight and len(weight) != len(adapters):
        raise InputError("weight", f"is given {len(weight)} times for {len(adapters)} adapters", "give one for each")
    opened = open_folder(model)
    check_room(opened.spec.parameters(), 8, "merging it")
    llama = load(model, adapters=adapters)
    weights = dict(zip(llama.model.choice.names, weight or [1.0] * len(adapters), strict=True))
    whole = merged(llama.model, weights)
    has_tokenizer = any((model / name).exists() for name in TOKENIZER_FILES)
    files = llama.tokenizer.files() if has_tokenizer else {}
    with torch.no_grad(), durable_folder(out, overwrite=overwrite) as draft:
        save_model(whole, draft, generation=llama.generation, tokenizer_files=files, family=llama.family)
    return Merged(str(out), str(model), weights, whole.spec.parameters())
