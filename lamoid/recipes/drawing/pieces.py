"""What a picture is made of, and how pieces of it are put together: in columns, in rows and in frames."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

LINE = "#495057"
INK = "#212529"
NARROW, WIDE = frozenset("fijlrtI.,:;'|!()[] "), frozenset("mwMWQO@%")


@dataclass(frozen=True)
class Box:
    """A rounded rectangle; ``tip`` is read where the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    edge: str
    radius: float = 6.0
    thickness: float = 1.2
    is_dashed: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Words:
    """A line of text in the middle of ``x``, its baseline at ``y``."""

    x: float
    y: float
    text: str
    size: float = 12.0
    colour: str = INK
    is_bold: bool = False


@dataclass(frozen=True)
class Way:
    """Lines from point to point, with a head at the end if it is an arrow."""

    points: tuple[tuple[float, float], ...]
    colour: str = LINE
    is_arrow: bool = True
    is_dashed: bool = False


Item = Box | Words | Way


@dataclass(frozen=True)
class Piece:
    """A part of a picture, its corner at (0, 0); the stream goes in above and out below at ``axis``.

    ``readers`` are places where an arrow from a memory is to end. ``is_open`` says that the stream goes in at all,
    ``has_edge`` that it meets a box there, so that an arrow is due, and not a line that goes on.
    """

    width: float
    height: float
    axis: float
    items: tuple[Item, ...] = ()
    readers: tuple[tuple[float, float], ...] = ()
    is_open: bool = True
    has_edge: bool = False
    parts: tuple[tuple[float, float, "Piece"], ...] = field(default=(), repr=False)


def text_width(text: str, size: float) -> float:
    """Guess how wide a text is; rather too much than too little."""
    total = 0.0
    for letter in text:
        if unicodedata.east_asian_width(letter) in "WF":
            total += 1.05
        else:
            total += 0.38 if letter in NARROW else 0.98 if letter in WIDE else 0.64
    return total * size


def shifted(item: Item, x: float, y: float) -> Item:
    """Give an item further to the right and down."""
    if isinstance(item, Way):
        return replace(item, points=tuple((a + x, b + y) for a, b in item.points))
    return replace(item, x=item.x + x, y=item.y + y)


def placed(parts: Sequence[tuple[float, float, Piece]], width: float, height: float, axis: float) -> Piece:
    """Put pieces at their places into one, which has what their readers wait for."""
    readers = tuple((a + x, b + y) for x, y, piece in parts for a, b in piece.readers)
    return Piece(width, height, axis, (), readers, parts=tuple(parts))


def with_items(piece: Piece, below: Sequence[Item] = (), above: Sequence[Item] = ()) -> Piece:
    """Give a piece with items drawn below and above its own."""
    return replace(piece, items=(), parts=((0, 0, _bare(below)), (0, 0, piece), (0, 0, _bare(above))))


def _bare(items: Sequence[Item]) -> Piece:
    return Piece(0, 0, 0, tuple(items))


def column(pieces: Sequence[Piece], gap: float = 22.0) -> Piece:
    """Put pieces below each other on one axis, joined by arrows where the stream goes on."""
    left = max(piece.axis for piece in pieces)
    right = max(piece.width - piece.axis for piece in pieces)
    parts, ways, y = [], [], 0.0
    for index, piece in enumerate(pieces):
        if index and piece.is_open:
            ways.append(Way(((left, y - gap), (left, y)), is_arrow=piece.has_edge))
        parts.append((left - piece.axis, y, piece))
        y += piece.height + gap
    whole = placed(parts, left + right, y - gap, left)
    return replace(with_items(whole, above=ways), is_open=pieces[0].is_open, has_edge=pieces[0].has_edge)


def row(pieces: Sequence[Piece], gap: float = 28.0) -> Piece:
    """Put pieces beside each other, their tops in line."""
    parts, x = [], 0.0
    for piece in pieces:
        parts.append((x, 0.0, piece))
        x += piece.width + gap
    return placed(parts, x - gap, max(piece.height for piece in pieces), (x - gap) / 2)


def padded(piece: Piece, x: float, above: float, below: float) -> Piece:
    """Put room around a piece."""
    return replace(
        placed(((x, above, piece),), piece.width + 2 * x, piece.height + above + below, piece.axis + x),
        is_open=piece.is_open,
    )


def flat(piece: Piece) -> list[Item]:
    """Give all items of a piece at their final places, from the back to the front."""
    found: list[Item] = []
    waiting = [(0.0, 0.0, piece)]
    while waiting:
        x, y, part = waiting.pop()
        found.extend(shifted(item, x, y) for item in part.items)
        waiting.extend((x + a, y + b, inner) for a, b, inner in reversed(part.parts))
    return found
