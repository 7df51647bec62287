"""Whether models can be fused by their parameters: the first thing in which they differ, before bulk reading."""

import json
from collections.abc import Sequence

import msgspec

from lamoid.assembly.difference import first_difference, show
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.folder import ModelFolder

CURE = "fuse models that come from one base, or leave this member out"


def check_match(folders: Sequence[ModelFolder]) -> None:
    """Raise an ``InputError`` naming the first field or tensor in which a member differs from the first one."""
    first, *others = folders
    for other in others:
        difference = first_difference(msgspec.to_builtins(first.spec), msgspec.to_builtins(other.spec))
        if difference is not None:
            field, here, there = difference
            raise InputError(other.path, f"{field} is {there}, in {first.path} it is {here}", CURE)
        _check_tensors(first, other)


def check_tokenizers(paths: Sequence[object], tokenizers: Sequence[Tokenizer]) -> None:
    """Raise an ``InputError`` naming the first difference between a member's tokenizer and the first one's."""
    for path, tokenizer in zip(paths[1:], tokenizers[1:], strict=True):
        if tokenizer.fingerprint() == tokenizers[0].fingerprint():
            continue
        field, here, there = _tokenizer_difference(tokenizers[0], tokenizer)
        problem = f"its tokenizer differs: {field} is {there}, in {paths[0]} it is {here}"
        raise InputError(path, problem, "parameters can be averaged only where every token means the same")


def weight_names(folder: ModelFolder) -> list[str]:
    """Name the tensors, as the files call them, that a model is made of: neither buffers nor a tied head's copy."""
    return list(dict.fromkeys(part.theirs for part in folder.names.parts.values()))


def _check_tensors(first: ModelFolder, other: ModelFolder) -> None:
    ours, theirs = first.tensors, other.tensors
    names = [set(weight_names(folder)) for folder in (first, other)]
    for name in sorted(names[0] | names[1]):
        culprit = f"{other.path}: tensor {name}"
        if name not in names[0] or name not in names[1]:
            place, missing = (other.path, first.path) if name in names[1] else (first.path, other.path)
            raise InputError(culprit, f"is in {place} and not in {missing}", CURE)
        for field in ("shape", "dtype"):
            here, there = getattr(ours[name], field), getattr(theirs[name], field)
            if here != there:
                cure = CURE if field == "shape" else "convert the members to one dtype first"
                raise InputError(culprit, f"{field} is {there}, in {first.path} it is {here}", cure)


def _tokenizer_difference(ours: Tokenizer, theirs: Tokenizer) -> tuple[str, str, str]:
    trees = [json.loads(tokenizer.files()["tokenizer.json"]) for tokenizer in (ours, theirs)]
    difference = first_difference(trees[0], trees[1])
    if difference is not None:
        return difference
    if ours.start != theirs.start:
        return "the start token", show(ours.start), show(theirs.start)
    return "the end token", show(ours.end), show(theirs.end)
