"""Says of descriptions of models whether they can be built: nothing of a model's size is allocated."""

from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.model import empty_model
from lamoid.assembly.paths import walk
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.recipes.spec_source import read_source


class CheckedSpec(msgspec.Struct, frozen=True):
    """A spec that can be built; ``causal`` says that it can write token by token."""

    file: str
    parameters: int
    blocks: int
    heads: list[str]
    causal: bool

    def line(self) -> str:
        """Sum it up."""
        blocks = f"{self.blocks} block{'' if self.blocks == 1 else 's'}"
        kind = "causal" if self.causal else "sees later tokens"
        return f"{self.file}: OK, {self.parameters:,} parameters, {blocks}, {kind}, heads {', '.join(self.heads)}"


class CheckedSpecs(msgspec.Struct, frozen=True):
    """What was checked, all of it good: the first that is not raises the error."""

    specs: list[CheckedSpec]

    def lines(self) -> list[str]:
        """Give one line a spec."""
        return [spec.line() for spec in self.specs]


def spec_check(files: Annotated[list[Path], "Specs as .json or .toml, or model folders."]) -> CheckedSpecs:
    """Read specs and build each without its numbers, so that sharing is checked too.

    Raises the ``InputError`` of one that cannot be used; of several, one that tells of each file.
    """
    good: dict[Path, CheckedSpec] = {}
    bad: dict[Path, InputError] = {}
    for file in map(Path, files):
        try:
            good[file] = _check(file)
        except InputError as error:
            bad[file] = error
    if bad and len(files) == 1:
        raise next(iter(bad.values()))
    if bad:
        told = [good[file].line() if file in good else str(bad[file]) for file in map(Path, files)]
        problem = "cannot be used:\n" + "\n".join(f"  {line}" for line in told)
        raise InputError(f"{len(bad)} of {len(files)} specs", problem, "Mend the places named")
    return CheckedSpecs(list(good.values()))


def _check(file: Path) -> CheckedSpec:
    spec = read_source(file).spec
    try:
        model = empty_model(spec)
    except InputError as error:
        raise InputError(f"{file}: {error.culprit}", error.problem, error.cure) from error
    count = sum(parameter.numel() for parameter in model.parameters())
    blocks = sum(isinstance(part, BlockSpec) for _, part in walk(spec.blocks))
    return CheckedSpec(str(file), count, blocks, list(spec.heads), _writes(spec))


def _writes(spec: ModelSpec) -> bool:
    return spec.not_causal is None
