"""AdaMerging of classifiers: factors a member and block by which their one trunk is surest of its answers."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from torch.func import functional_call

from lamoid.assembly.batch import Batch
from lamoid.assembly.difference import first_difference
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.task_heads import ClassesSpec
from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.search.adamerging import Parameters, adamerge
from lamoid.fusion.source import Settings, Source
from lamoid.recipes.room import check_room
from lamoid.recipes.statistic_examples import read_examples
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.folder import ModelFolder, load_model, open_folder

RULE = "task_arithmetic"


@dataclass(frozen=True)
class SurestTrunk:
    """What was found: ``factors`` of each block, in the members' order; mean entropies in nats, over tasks.

    ``names`` are the tensors, as the files call them, that all have in common; heads stay each member's own.
    """

    members: list[ModelFolder]
    base: ModelFolder
    names: list[str]
    factors: dict[str, list[float]]
    entropy_before: float
    entropy_after: float

    def sources(self) -> tuple[list[Source], Source]:
        """Give members and base, for ``stream_fusion`` or ``fuse_in_memory`` by ``RULE``."""
        sources = [Source(str(folder.path), folder.tensors) for folder in [*self.members, self.base]]
        return sources[:-1], sources[-1]

    @property
    def settings(self) -> Settings:
        """Give the factors of a tensor by its name in the files."""
        groups = {part.theirs: block_of(ours) for ours, part in self.base.names.parts.items()}
        options = RULES[RULE].options()
        return lambda name: (self.factors[groups[name]], options)


def adamerge_classifiers(
    members: Sequence[Path],
    base: Path,
    texts: Sequence[Sequence[str]],
    *,
    start: float = 0.3,
    rate: float = 1e-2,
    steps: int = 100,
    batch: int = 8,
) -> SurestTrunk:
    """Find factors for the trunk of classifiers of one base, from texts of each one's task, without labels.

    B + sum_i factor_i (M_i - B) answers with each member's own head to that member's ``texts``; the entropies of its
    answers, added up, are made small by Adam (Yang et al., 2024, arXiv 2310.02575). All models are held in float32.
    Raise ``InputError`` for trunks that differ, and for a model that does not say which class a text is of: the entropy
    of next tokens is least for a model that always says the same.
    """
    if not members or len(members) != len(texts):
        raise InputError("texts", f"are {len(texts)} for {len(members)} members", "give the texts of each one's task")
    folders, origin = [open_folder(path) for path in members], open_folder(base)
    for folder in folders:
        _check_classifier(folder)
        _check_trunk(folder, origin)
    check_room(origin.spec.parameters(), 4 * (3 * len(folders) + 4), "merging its trunk with the others")
    own = [load_model(folder, dtype=torch.float32) for folder in folders]
    ground = dict(load_model(origin, dtype=torch.float32).named_parameters())
    shared = {name: tensor.detach() for name, tensor in ground.items() if not name.startswith("heads.")}
    trunks = [{name: model.get_parameter(name).detach() for name in shared} for model in own]
    rows = [
        read_examples(Tokenizer.read(folder.path), given, folder.spec, max(1, len(given)))
        for folder, given in zip(folders, texts, strict=True)
    ]
    whole = partial(_entropy, own, rows)
    factors = adamerge(
        shared, trunks, _batches(own, rows, batch), group_of=block_of, start=start, rate=rate, steps=steps
    )
    before = {group: [start] * len(own) for group in factors}
    with torch.no_grad():
        entropies = [float(whole(_mixed(shared, trunks, each))) / len(own) for each in (before, factors)]
    names = list(dict.fromkeys(part.theirs for ours, part in origin.names.parts.items() if ours in shared))
    return SurestTrunk(folders, origin, names, factors, *entropies)


def block_of(name: str) -> str:
    """Give the part of the model that a parameter is of: blocks.3, embedding, norm."""
    match = re.match(r"blocks\.\d+", name)
    return match[0] if match else name.partition(".")[0]


def _batches(
    models: Sequence[LanguageModel], rows: Sequence[Sequence[Tensor]], batch: int
) -> Iterator[Callable[[Parameters], Tensor]]:
    """Give the entropy of ``batch`` rows of each task, then of the next ones, round and round."""
    first = 0
    while True:
        chosen = [[own[(first + k) % len(own)] for k in range(min(batch, len(own)))] for own in rows]
        yield partial(_entropy, models, chosen)
        first += batch


def _entropy(models: Sequence[LanguageModel], rows: Sequence[Sequence[Tensor]], trunk: Parameters) -> Tensor:
    """Give the mean entropy of the answers to each model's rows, added up, in nats."""
    total = torch.zeros(())
    for model, own in zip(models, rows, strict=True):
        for ids in own:
            shares = functional_call(model, trunk, (Batch(ids),)).float().log_softmax(-1)
            total = total - (shares.exp() * shares).sum() / len(own)
    return total


def _mixed(base: Parameters, members: Sequence[Parameters], factors: dict[str, list[float]]) -> Parameters:
    found = {}
    for name, tensor in base.items():
        parts = zip(factors[block_of(name)], members, strict=True)
        found[name] = tensor + sum(factor * (member[name] - tensor) for factor, member in parts)
    return found


def _check_classifier(folder: ModelFolder) -> None:
    head, spec = next(iter(folder.spec.heads.items()))
    if not isinstance(spec, ClassesSpec):
        problem = "is the default head and gives no class: tokens that are sure are tokens that repeat"
        raise InputError(f"{folder.path}: heads.{head}", problem, "weigh such models by their losses (lamoid fuse)")


def _check_trunk(folder: ModelFolder, base: ModelFolder) -> None:
    ours, theirs = ({**msgspec.to_builtins(each.spec), "heads": {}} for each in (base, folder))
    difference = first_difference(ours, theirs)
    if difference is not None:
        field, here, there = difference
        problem = f"{field} is {there}, in {base.path} it is {here}"
        raise InputError(folder.path, problem, "merge classifiers that were trained from this base")
