"""Writes a tree of parts as a Mermaid flowchart, which many pages draw from text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lamoid.recipes.drawing.colours import ROLES, group_colours
from lamoid.recipes.drawing.parts import Part

_ESCAPES = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "&": "#amp;", "`": "#96;", "|": "#124;", "\\": "#92;"}


@dataclass
class _Chart:
    lines: list[str] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    looks: dict[str, tuple[str, str]] = field(default_factory=dict)
    count: int = 0

    def new(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def node(self, words: Sequence[str], look: str, depth: int, *, is_round: bool = False) -> str:
        """Write a box, give its name."""
        name, text = self.new(), "<br/>".join(map(_escaped, words))
        left, right = ("([", "])") if is_round else ("[", "]")
        self.lines.append(f'{"  " * depth}{name}{left}"{text}"{right}:::{look}')
        return name

    def edge(self, start: str, end: str, kind: str = "-->") -> None:
        self.edges.append(f"  {start} {kind} {end}")

    def look(self, part: Part) -> str:
        """Give the class of a part's colours."""
        if part.mark:
            name, colours = f"shared{part.mark}", group_colours(part.mark)
        else:
            role = part.kind if part.kind in ROLES else part.role
            if part.role == "mixer" and part.kind not in ("attention", "cross_attention"):
                role = "recurrent"
            name, colours = role, ROLES[role]
        self.looks[name] = colours
        return name


@dataclass(frozen=True)
class _Ends:
    """Where the stream goes into a drawn part (nowhere if it reads its own), where it comes out, who reads a memory."""

    first: tuple[str, ...]
    last: str
    readers: tuple[str, ...] = ()


Draw = Callable[[_Chart, Sequence[Part], int], _Ends]


def to_mermaid(model: Part) -> bytes:
    """Give the flowchart of a model."""
    chart = _Chart()
    trunk = _series(chart, [part for part in model.parts if part.role != "head"], 1)
    for head in model.inside("head"):
        chart.edge(trunk.last, _leaf(chart, head, 1).last)
    classes = [f"  classDef {name} fill:{fill},stroke:{edge};" for name, (fill, edge) in sorted(chart.looks.items())]
    return "\n".join(["flowchart TB", *chart.lines, *chart.edges, *classes, ""]).encode()


def _drawn(chart: _Chart, part: Part, depth: int) -> _Ends:
    if part.role in ("block", "serial", "repeat", "stack", "branch"):
        label = {"repeat": f"\u00d7 {part.times}", "branch": part.kind}.get(
            part.role, " ".join((part.kind, *part.notes))
        )
        return _framed(chart, part, label, depth, _series)
    if part.role == "parallel":
        return _framed(chart, part, "parallel", depth, lambda chart, parts, depth: _parallel(chart, part, depth))
    if part.role == "cross":
        return _framed(chart, part, "cross", depth, lambda chart, parts, depth: _cross(chart, parts, depth))
    return _leaf(chart, part, depth)


def _framed(chart: _Chart, part: Part, label: str, depth: int, draw: Draw) -> _Ends:
    shared = f" (shared {part.mark})" if part.mark else ""
    name = chart.new()
    chart.lines.append(f'{"  " * depth}subgraph {name}["{_escaped(label + shared)}"]')
    ends = draw(chart, part.parts, depth + 1)
    chart.lines.append(f"{'  ' * depth}end")
    if part.mark:
        chart.edges.append(f"  class {name} {chart.look(part)}")
    return ends


def _leaf(chart: _Chart, part: Part, depth: int) -> _Ends:
    shared = [f"shared {part.mark}"] if part.mark else [f"{mark} shared" for mark in part.marks]
    is_round = part.role in ("input", "norm")
    drawn = chart.node([part.title, *part.notes, *shared], chart.look(part), depth, is_round=is_round)
    reads = (drawn,) if part.kind == "cross_attention" else ()
    return _Ends(() if part.role == "input" else (drawn,), drawn, reads)


def _series(chart: _Chart, parts: Sequence[Part], depth: int) -> _Ends:
    if not parts:
        chart.looks["norm"] = ROLES["norm"]
        drawn = chart.node(["as it is"], "norm", depth, is_round=True)
        return _Ends((drawn,), drawn)
    ends = [_drawn(chart, part, depth) for part in parts]
    for before, after in pairwise(ends):
        for first in after.first:
            chart.edge(before.last, first)
    return _Ends(ends[0].first, ends[-1].last, tuple(reader for end in ends for reader in end.readers))


def _parallel(chart: _Chart, part: Part, depth: int) -> _Ends:
    ends = [_drawn(chart, branch, depth) for branch in part.parts]
    chart.looks["merge"] = ROLES["merge"]
    merge = chart.node([part.notes[0]], "merge", depth, is_round=True)
    for end in ends:
        chart.edge(end.last, merge)
    first = tuple(name for end in ends for name in end.first)
    return _Ends(first, merge, tuple(reader for end in ends for reader in end.readers))


def _cross(chart: _Chart, parts: Sequence[Part], depth: int) -> _Ends:
    memory, reader = (_drawn(chart, part, depth) for part in parts)
    for name in reader.readers:
        chart.edge(memory.last, name, "-. memory .->")
    return _Ends((*memory.first, *reader.first), reader.last, memory.readers)


def _escaped(text: str) -> str:
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return "".join(_ESCAPES.get(letter, letter) for letter in plain)
