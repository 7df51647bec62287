"""Lays a tree of parts out: series from top to bottom, branches side by side, a memory to the left of its reader."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lamoid.recipes.drawing.colours import ROLES, group_colours, role_colours
from lamoid.recipes.drawing.parts import Part
from lamoid.recipes.drawing.pieces import (
    LINE,
    Box,
    Item,
    Piece,
    Way,
    Words,
    column,
    padded,
    placed,
    row,
    text_width,
    with_items,
)

LEAST, MOST_TEXT = 170.0, 46
GREY, VIOLET = "#868e96", "#7048e8"


def lay_out(model: Part, title: str, groups: Sequence[tuple[str, Sequence[str]]] = ()) -> Piece:
    """Give the whole picture of a model, with its title above and what shares parameters below."""
    heads = model.inside("head")
    trunk = [draw(part) for part in model.parts if part.role != "head"]
    pieces = [*trunk, _heads([draw(head) for head in heads])]
    body = column(pieces)
    lines = [Words(0, 0, _short(title, 70), 16, is_bold=True)]
    figures = (
        f"{model.parameters:,} parameters, {model.flops:,} FLOPs and {model.cache_numbers:,} cached numbers a token"
    )
    lines += [Words(0, 20, ", ".join(model.notes), 12, GREY), Words(0, 38, figures, 12, GREY)]
    return _titled(body, lines, [(mark, _members(paths)) for mark, paths in groups])


def _members(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return _short(f"shared by {', '.join(paths[:4])}{more}", 140)


def draw(part: Part) -> Piece:
    """Draw any part."""
    return _WAYS.get(part.role, _leaf)(part)


def _leaf(part: Part, least: float = LEAST) -> Piece:
    """A box with its kind and its settings; coloured as what it shares parameters with, and marked."""
    fill, edge = group_colours(part.mark) if part.mark else role_colours(part.role, part.kind)
    notes = _wrapped(part.notes)
    notes += [f"{note.rpartition(' ')[0]} shared: {note.rpartition(' ')[2]}" for note in part.marks[:3]]
    width = max([least, text_width(part.title, 13) + 60, *(text_width(note, 11) + 24 for note in notes)])
    height = 32 + 15 * len(notes)
    tip = f"{part.path}: {part.parameters:,} parameters"
    items: list[Item] = [Box(0, 0, width, height, fill, edge, thickness=2.2 if part.mark else 1.2, tip=tip)]
    items.append(Words(width / 2, 20.5, _short(part.title, MOST_TEXT), 13, is_bold=True))
    items += [Words(width / 2, 37 + 15 * i, note, 11, "#495057") for i, note in enumerate(notes)]
    if part.mark:
        items += _badge(part.mark, width - 16, 16, edge)
    return Piece(width, height, width / 2, tuple(items), has_edge=True)


def _pill(text: str, fill: str, edge: str, tip: str = "") -> Piece:
    width = max(44.0, text_width(text, 11) + 22)
    box = Box(0, 0, width, 22, fill, edge, radius=11, tip=tip)
    return Piece(width, 22, width / 2, (box, Words(width / 2, 15, text, 11)), has_edge=True)


def _input(part: Part) -> Piece:
    return replace(_pill(part.kind, *ROLES["input"], tip=part.path), is_open=False)


def _norm(part: Part) -> Piece:
    fill, edge = group_colours(part.mark) if part.mark else ROLES["norm"]
    mark = f" {part.mark}" if part.mark else ""
    return _pill(part.title + mark, fill, edge, f"{part.path}: {part.parameters:,} parameters")


def _block(part: Part) -> Piece:
    """A frame with the sublayers, each added to the stream that goes around it."""
    order = part.notes[0]
    boxes = [_sublayer_box(sublayer) for sublayer in part.parts]
    if order == "parallel" and len(boxes) > 1:
        sides = [column([*map(_norm, part.parts), box], 14) for part, box in zip(part.parts, boxes, strict=True)]
        body = _added(_merged(sides, None))
    else:
        widest = max(box.width for box in boxes)
        boxes = [_sublayer_box(sublayer, widest) for sublayer in part.parts]
        body = column([_sublayer(part, box, order) for part, box in zip(part.parts, boxes, strict=True)], 16)
    return _framed(body, f"block, {order}", part)


def _sublayer(part: Part, box: Piece, order: str) -> Piece:
    """A mixer or feed-forward with its norms where the order has them."""
    norms = [_norm(norm) for norm in part.parts]
    if order == "post":
        return column([_added(box), *norms], 14)
    if order == "output":
        return _added(column([box, *norms], 14))
    return _added(column([*norms[:1], box, *norms[1:]], 14))


def _sublayer_box(part: Part, least: float = LEAST) -> Piece:
    piece = _leaf(part, least)
    reads = part.kind == "cross_attention"
    return replace(piece, readers=((0.0, 18.0),)) if reads else piece


def _added(piece: Piece) -> Piece:
    """Lead the stream around a piece, to its right, and add it below."""
    above, below, side, dot = 12.0, 16.0, 16.0, 8.0
    half = max(piece.axis, piece.width - piece.axis + side)
    width, x = 2 * half, half
    end = above + piece.height + below
    around = ((x, 4.0), (x + piece.width - piece.axis + side - 4, 4.0))
    around += ((around[1][0], end + dot), (x + dot, end + dot))
    items = [
        Way(((x, 0), (x, above)), is_arrow=piece.has_edge),
        Way(around, GREY),
        Way(((x, above + piece.height), (x, end)), is_arrow=False),
        Box(x - dot, end, 2 * dot, 2 * dot, "#ffffff", LINE, radius=dot),
        Words(x, end + 12.5, "+", 13, is_bold=True),
    ]
    whole = placed(((x - piece.axis, above, piece),), width, end + 2 * dot, x)
    return with_items(whole, above=items)


def _serial(part: Part) -> Piece:
    if not part.parts:
        return _pill("as it is", *ROLES["norm"], tip=part.path)
    return _framed(column([draw(inner) for inner in part.parts]), "series", part)


def _repeat(part: Part) -> Piece:
    """A frame with sheets behind it: what is in it stands there several times."""
    body = padded(column([draw(inner) for inner in part.parts]), 14, 12, 12)
    fill, edge = "#f8f9fa", "#adb5bd"
    sheets = [Box(6 * i, 6 * i, body.width, body.height, fill, edge, 10, tip=part.path) for i in (2, 1, 0)]
    label = f"\u00d7 {part.times}"
    width = text_width(label, 14) + 20
    badge = [
        Box(body.width - width - 8, -12, width, 24, "#343a40", "#343a40", 12),
        Words(body.width - width / 2 - 8, 5, label, 14, "#ffffff", is_bold=True),
    ]
    x, end = body.axis, body.height
    way = Way(((x, -12), (x, 12)), is_arrow=part.parts[0].role in ("project", "input"))
    out = Way(((x, end - 12), (x, end + 12)), is_arrow=False)
    inner = with_items(body, sheets, [way, out, *badge])
    whole = placed(((0, 12, inner),), body.width + 12, body.height + 24, body.axis)
    return replace(whole, is_open=body.is_open)


def _stack(part: Part) -> Piece:
    inside = column([draw(inner) for inner in part.parts])
    return replace(_framed(inside, f"stack, {', '.join(part.notes)}", part, fill="#fcfcfd"), is_open=False)


def _branch(part: Part) -> Piece:
    inner = draw(part.parts[0])
    width = text_width(part.kind, 12) + 12
    whole = placed(((0, 20, inner),), max(inner.width, 2 * width), inner.height + 20, inner.axis)
    name = Words(inner.axis - width / 2 - 6, 12, _short(part.kind, 30), 12, "#d9480f", is_bold=True)
    way = [Way(((inner.axis, 0), (inner.axis, 20)), is_arrow=inner.has_edge)] if inner.is_open else []
    return replace(with_items(whole, above=[*way, name]), is_open=inner.is_open)


def _parallel(part: Part) -> Piece:
    return _framed(_merged([draw(branch) for branch in part.parts], part.notes[0]), "parallel", part)


def _merged(branches: Sequence[Piece], merge: str | None) -> Piece:
    """Split the stream to branches side by side and bring what they give together."""
    side = row(branches)
    above, below, x = 24.0, 24.0, side.width / 2
    bottom = above + side.height
    items: list[Item] = []
    for left, _, branch in side.parts:
        axis = left + branch.axis
        if branch.is_open:
            points = ((x, 0.0), (x, 8.0), (axis, 8.0), (axis, above))
            items.append(Way(points, is_arrow=branch.has_edge))
        end = ((axis, above + branch.height), (axis, bottom + 10), (x, bottom + 10), (x, bottom + below))
        items.append(Way(end, is_arrow=merge is not None))
    whole = placed(((0, above, side),), side.width, bottom + below, x)
    if merge is not None:
        pill = _pill(merge, *ROLES["merge"])
        whole = placed(
            ((0, 0, whole), (x - pill.axis, bottom + below, pill)), side.width, bottom + below + pill.height, x
        )
    return with_items(whole, above=items)


def _cross(part: Part) -> Piece:
    """The memory stands to the left; an arrow leads from its output to each place where it is read."""
    memory, reader = (draw(inner) for inner in part.parts)
    gap, top = 56.0, 22.0
    offset = memory.width + gap
    height = max(memory.height + 18, reader.height)
    width, axis = offset + reader.width, offset + reader.axis
    whole = placed(((0, top, memory), (offset, top, reader)), width, height + top, axis)
    channel, end = memory.width + gap / 2, top + memory.height
    start = ((memory.axis, end), (memory.axis, end + 10), (channel, end + 10))
    items: list[Item] = [Way(((axis, 0), (axis, top)), is_arrow=reader.has_edge)]
    items.append(Way(((axis, top + reader.height), (axis, top + height)), is_arrow=False))
    if memory.is_open:
        items.append(Way(((axis, 0), (axis, 6), (memory.axis, 6), (memory.axis, top)), is_arrow=memory.has_edge))
    for x, y in reader.readers:
        items.append(Way((*start, (channel, y + top), (x + offset, y + top)), VIOLET, is_dashed=True))
    if not reader.readers:
        items.append(Way(start, VIOLET, is_dashed=True))
    return _framed(replace(with_items(whole, above=items), readers=memory.readers), "cross", part)


def _framed(piece: Piece, label: str, part: Part, fill: str = "#ffffff") -> Piece:
    """Put a frame around a piece, its label in the upper left corner, in the group's colour if it is shared."""
    edge = ROLES["frame"][1]
    mark = part.mark
    if mark:
        fill, edge = group_colours(mark)
    label = _short(label, MOST_TEXT)
    room = max(14.0, (text_width(label, 11) + 40 - piece.width) / 2)
    body = padded(piece, room, 26 if piece.is_open else 34, 12)
    tip = f"{part.path}: {part.parameters:,} parameters"
    width = text_width(label, 11)
    items: list[Item] = [
        Box(0, 0, body.width, body.height, fill, edge, 10, 2.2 if mark else 1.2, is_dashed=not mark, tip=tip),
        Words(10 + width / 2, 16, label, 11, GREY if not mark else edge),
    ]
    above: list[Item] = []
    if piece.is_open:
        above.append(Way(((body.axis, 0), (body.axis, 26)), is_arrow=piece.has_edge))
    above.append(Way(((body.axis, body.height - 12), (body.axis, body.height)), is_arrow=False))
    if mark:
        above += _badge(mark, body.width - 16, 16, edge)
    return replace(with_items(body, items, above), is_open=piece.is_open)


def _badge(mark: str, x: float, y: float, edge: str) -> list[Item]:
    width = 10 + 9.0 * len(mark)
    box = Box(x - width / 2, y - 9.5, width, 19, edge, edge, 9.5)
    return [box, Words(x, y + 4, mark, 11, "#ffffff", is_bold=True)]


def _heads(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    side = row(pieces)
    x = side.width / 2
    items = [Way(((x, 0), (x, 8), (left + head.axis, 8), (left + head.axis, 22))) for left, _, head in side.parts]
    return with_items(placed(((0, 22, side),), side.width, side.height + 22, x), above=items)


def _titled(body: Piece, lines: list[Words], legend: list[tuple[str, str]]) -> Piece:
    """Put room around a picture, its title in the middle above it, and below it what shares parameters."""
    texts = [*((line.text, line.size) for line in lines), *((text, 11.0) for _, text in legend)]
    room = max(24.0, (max(text_width(*text) for text in texts) - body.width) / 2 + 40)
    whole = padded(body, room, 92, 24 + 22 * len(legend))
    centre, items = whole.width / 2, [replace(line, x=whole.width / 2, y=line.y + 30) for line in lines]
    below: list[Item] = [*items]
    for index, (mark, text) in enumerate(legend):
        y, half = whole.height - 22 * (len(legend) - index), text_width(text, 11) / 2
        below += [*_badge(mark, centre - half - 14, y, group_colours(mark)[1]), Words(centre, y + 4, text, 11)]
    return with_items(whole, above=below)


def _wrapped(notes: Sequence[str]) -> list[str]:
    """Join settings with dots into lines that are not too long."""
    lines: list[str] = []
    for note in (_short(note, MOST_TEXT) for note in notes):
        if lines and len(lines[-1]) + len(note) < 32:
            lines[-1] += f" \u00b7 {note}"
        else:
            lines.append(note)
    return lines


def _short(text: str, most: int) -> str:
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return plain if len(plain) <= most else plain[: most - 1] + "\u2026"


_WAYS: dict[str, Callable[[Part], Piece]] = {
    "input": _input,
    "norm": _norm,
    "block": _block,
    "serial": _serial,
    "repeat": _repeat,
    "stack": _stack,
    "branch": _branch,
    "parallel": _parallel,
    "cross": _cross,
}
