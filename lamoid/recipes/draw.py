"""Draws a model from its description: series, branches, crosses and what shares parameters, at a glance."""

from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.assembly.model import empty_model
from lamoid.errors import InputError
from lamoid.recipes.drawing.layout import lay_out
from lamoid.recipes.drawing.marks import marks_of, shared_groups
from lamoid.recipes.drawing.mermaid import to_mermaid
from lamoid.recipes.drawing.parts import Part, folded, parts_of
from lamoid.recipes.drawing.png import to_png
from lamoid.recipes.drawing.svg import to_svg
from lamoid.recipes.spec_source import read_source
from lamoid.weights.durable import durable_file

MERMAID = (".mmd", ".mermaid")
FORMS = (".svg", ".png", *MERMAID)


class Drawing(msgspec.Struct, frozen=True):
    """A drawn model: where the picture is, and how large model and picture are."""

    out: str
    parameters: int
    bytes: int

    def lines(self) -> list[str]:
        """Say where the picture is."""
        return [f"{self.out}: a model of {self.parameters:,} parameters, {self.bytes:,} bytes"]


def draw(
    spec: Annotated[Path | str, "A spec as .json or .toml, or a model folder."],
    *,
    out: Annotated[Path | str, "The picture: .svg, .png (needs lamoid[eval]), or .mmd or .mermaid for Mermaid."],
    overwrite: Annotated[bool, "Replace the picture if it exists."] = False,
) -> Drawing:
    """Draw a model; none of its weights is read. Raises ``InputError`` for what is no model, or no form of picture."""
    path, target = Path(spec), Path(out)
    if target.suffix not in FORMS:
        raise InputError(target, f"ends with {target.suffix!r}", f"choose one of {', '.join(FORMS)}")
    model = empty_model(read_source(path).spec)
    groups = shared_groups(model)
    marks = marks_of(groups)
    tree = folded(parts_of(model, marks))
    data = _written(tree, target.suffix, path.resolve().stem, [(marks[paths[0]], paths) for paths in groups])
    durable_file(target, data, overwrite=overwrite)
    return Drawing(str(target), tree.parameters, len(data))


def _written(tree: Part, form: str, title: str, groups: list[tuple[str, list[str]]]) -> bytes:
    if form in MERMAID:
        return to_mermaid(tree)
    picture = lay_out(tree, title, groups)
    return to_png(picture) if form == ".png" else to_svg(picture, title, describe(tree))


def describe(tree: Part) -> str:
    """Tell a model in words, part by part, for those who cannot see the picture."""
    shared = f" (shared {tree.mark})" if tree.mark else ""
    inside = "; ".join(describe(part) for part in tree.parts if part.role not in ("norm", "input"))
    if tree.role == "repeat":
        return f"{tree.times} times [{inside}]"
    role = f"{tree.role} " if tree.role in ("head", "branch") else ""
    said = f" ({', '.join(tree.notes)})" if tree.notes else ""
    own = f"{role}{tree.title}{said}{shared}"
    return f"{own}: [{inside}]" if inside else own
