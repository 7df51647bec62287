"""Measures what RegMean++ needs: the products of each member's inputs behind earlier layers that are merged already
(Nguyen et al., 2025, arXiv 2508.03121)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.model import LanguageModel
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.source import Settings, Source
from lamoid.fusion.statistics.gram import gathering_grams
from lamoid.fusion.stream import fuse_in_memory
from lamoid.recipes.fusion_statistics import by_file_name, held
from lamoid.recipes.progress import Progress
from lamoid.recipes.room import check_room
from lamoid.recipes.statistic_examples import ask_head, check_measurable, read_examples, read_of
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import ModelFolder, load_model
from lamoid.weights.write import write_tensors

Grams = dict[str, Tensor]
State = dict[str, Tensor]
Merge = Callable[[Sequence[State], Sequence[Grams]], State]
"""Gives the fused parameters of members, by their products; both by the parameters' names."""


@dataclass
class Row:
    """A text on its way through the model: its ids (1, T), and the vectors (1, T, C) that the merged layers made."""

    ids: Tensor
    hidden: Tensor


@torch.no_grad()
def merged_grams(
    members: Sequence[LanguageModel],
    merged: LanguageModel,
    rows: Sequence[Sequence[Tensor]],
    merge: Merge,
    advance: Callable[[int], None] | None = None,
) -> list[Grams]:
    """Give each member's products by its parameters' names; ``merged``, of the same spec, becomes the fused model.

    Part by part, from the embedding to the heads, each member's part reads what the merged parts before it make of the
    member's own ``rows``; then the part is merged, and all go through it. Parameters that a later part shares with an
    earlier one were merged there. All of the rows' vectors are held: 4 x T x C bytes each.
    """
    found: list[Grams] = [{} for _ in members]
    done: set[str] = set()
    work = [[Row(ids, torch.empty(0)) for ids in given] for given in rows]
    for path, step in _parts(merged):
        for member, own, grams in zip(members, work, found, strict=True):
            with gathering_grams(member.get_submodule(path)) as part:
                for row in own:
                    step(member, row)
            grams |= {f"{path}.{name}": total for name, total in part.items() if f"{path}.{name}" not in grams}
        names = [name for name, _ in merged.named_parameters() if name.startswith(f"{path}.") and name not in done]
        done.update(names)
        states = [{name: member.get_parameter(name).detach() for name in names} for member in members]
        for name, tensor in (merge(states, found) if names else {}).items():
            merged.get_parameter(name).copy_(tensor)
        for row in (row for own in work for row in own):
            row.hidden = step(merged, row)
        if advance is not None:
            advance(1)
    known = dict(merged.named_parameters())
    return [{name: total for name, total in grams.items() if name in known} for grams in found]


def measure_merged(
    folders: Sequence[ModelFolder],
    texts: Sequence[Sequence[str]],
    merge: Merge,
    places: Sequence[Path],
    examples: int,
    progress: Progress | None = None,
) -> None:
    """Write the products of each member, of its own texts, to its place, by the tensors' names in its files.

    All members are held in float32. Raise ``InputError`` for models that read no text alone, or have no room.
    """
    check_measurable(folders[0].spec, "gram")
    check_room(folders[0].spec.parameters(), 4 * (2 * len(folders) + 1), "measuring the members together")
    given = zip(folders, texts, strict=True)
    rows = [read_examples(Tokenizer.read(folder.path), own, folder.spec, examples) for folder, own in given]
    members = [load_model(folder, dtype=torch.float32) for folder in folders]
    merged = load_model(folders[0], dtype=torch.float32)
    if progress is not None:
        progress.start("products of the members' inputs, merged", len(merged.blocks) + 3, "parts")
    found = merged_grams(members, merged, rows, merge, None if progress is None else progress.advance)
    if progress is not None:
        progress.finish()
    for folder, grams, place in zip(folders, found, places, strict=True):
        with durable_folder(place) as draft:
            write_tensors(draft, by_file_name(folder, grams))


def merging(rule: Rule, settings: Settings, file_name: Callable[[str], str], memory: int) -> Merge:
    """Give the function that fuses a part by a rule; ``settings`` are asked by the names in the files."""

    def merge(states: Sequence[State], grams: Sequence[Grams]) -> State:
        sources = [
            Source(str(index), held(state), str(index), held(known))
            for index, (state, known) in enumerate(zip(states, grams, strict=True))
        ]
        return fuse_in_memory(sources, None, rule, lambda name: settings(file_name(name)), memory=memory)

    return merge


Step = Callable[[LanguageModel, Row], Tensor]


def _parts(model: LanguageModel) -> Iterator[tuple[str, Step]]:
    """Give each part's path in the order of reading, and how it is gone through."""
    yield "embedding", _embed
    for index in range(len(model.blocks)):
        yield f"blocks.{index}", _through(index)
    yield "norm", lambda model, row: model.norm(row.hidden)
    yield "heads", _answer


def _embed(model: LanguageModel, row: Row) -> Tensor:
    batch = Batch(read_of(model.spec, row.ids))
    return model.embedding(batch.ids, plan_layout(batch, None))


def _through(index: int) -> Step:
    def step(model: LanguageModel, row: Row) -> Tensor:
        block: nn.Module = model.blocks[index]
        return block(row.hidden, plan_layout(Batch(read_of(model.spec, row.ids)), None))

    return step


def _answer(model: LanguageModel, row: Row) -> Tensor:
    ask_head(model, row.hidden, row.ids)
    return row.hidden
