"""docs/models.md lists every kind of part with its fields and defaults, as the code has them.

``python tests/assembly/test_models_page.py`` writes the tables anew.
"""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from lamoid.assembly.adapter import AdapterSpec
from lamoid.assembly.attention import AttentionPositionSpec, CapSpec, QueryKeyNormSpec, ScaleSpec
from lamoid.assembly.block import FeedForwardSpec, MixerSpec, OrderSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.heads import NoTransformSpec, TiedSpec, TransformSpec
from lamoid.assembly.linear import AdaptedSpec, DenseSpec
from lamoid.assembly.norm import NormSpec
from lamoid.assembly.position import ScalingSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.sight import ReachSpec, SeesSpec
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.assembly.task_heads import PoolSpec
from lamoid.assembly.wiring import MergeSpec, NodeSpec

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
FIELDS = {field.name: field.type for field in msgspec.structs.fields(EmbeddingSpec)}
UNIONS: dict[str, Any] = {
    "The model": ModelSpec | ShareSpec,
    "`blocks`: nodes": NodeSpec,
    "`merge` of a parallel": MergeSpec,
    "`embedding`": EmbeddingSpec | DenseSpec,
    "`embedding.table`": FIELDS["table"],
    "`embedding.types`": FIELDS["types"],
    "`embedding.positions`": FIELDS["positions"],
    "`mixer`": MixerSpec,
    "`position` of an attention": AttentionPositionSpec,
    "`scaling` of rotary positions": ScalingSpec,
    "`sees`": SeesSpec,
    "`reach`": ReachSpec,
    "`query_key_norm`": QueryKeyNormSpec,
    "`scale`": ScaleSpec,
    "`cap`": CapSpec,
    "`feedforward`": FeedForwardSpec,
    "norms": NormSpec,
    "`order` of a block": OrderSpec,
    "`heads`": HeadSpec,
    "`transform` of a head": NoTransformSpec | TransformSpec,
    "`linear`": DenseSpec | AdaptedSpec | TiedSpec,
    "`adapters` of a linear": AdapterSpec,
    "`pool` of a head": PoolSpec,
}


def tables() -> str:
    """Write a table for every place where there is a choice."""
    lines: list[str] = []
    for title, union in UNIONS.items():
        lines += [f"### {title}", "", "| kind | fields | |", "|---|---|---|"]
        for kind in get_args(union) or (union,):
            told = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
            tag = kind.__struct_config__.tag
            fields = ", ".join(map(_field, msgspec.structs.fields(kind)))
            lines.append(f"| {f'`{tag}`' if tag else ''} | {fields} | {told} |")
        lines.append("")
    return "\n".join(lines)


def _field(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return f"`{field.name}`"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Struct):
        tag, said = default.__struct_config__.tag, {f.name: f.default for f in msgspec.structs.fields(default)}
        changed = {name: getattr(default, name) for name, usual in said.items() if getattr(default, name) != usual}
        default = {"kind": tag, **changed} if changed else tag
    return f"`{field.name}` = {json.dumps(default)}"


def test_the_page_has_every_kind_and_field() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == tables() + "\n"


def test_its_python_runs() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    shapes = "\nprint(tuple(masked.shape), tuple(follows.shape), tuple(logits.shape))"
    done = subprocess.run(
        [sys.executable, "-c", code + shapes], cwd=PAGE.parents[1], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(2, 16, 512) (2, 2) (2, 16, 128)\n", done.stderr


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(before + tables() + "\n" + after, encoding="utf-8")
