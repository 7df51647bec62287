"""Writes a picture as SVG: the same picture gives the same bytes."""

from collections.abc import Iterator

from lamoid.recipes.drawing.pieces import Box, Item, Piece, Way, Words, flat

FONT = "Helvetica, Arial, 'DejaVu Sans', 'Noto Sans CJK SC', sans-serif"
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def to_svg(piece: Piece, title: str, description: str) -> bytes:
    """Give the picture; ``title`` and ``description`` are what is read aloud."""
    width, height = _number(piece.width), _number(piece.height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-labelledby="title description" font-family="{escaped(FONT)}" text-anchor="middle">'
    )
    lines = [head, f'<title id="title">{escaped(title)}</title>']
    lines += [f'<desc id="description">{escaped(description)}</desc>']
    lines += [f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for item in flat(piece):
        lines.extend(_drawn(item))
    return "\n".join([*lines, "</svg>", ""]).encode()


def escaped(text: str) -> str:
    """Write text so that it is neither markup nor a character that XML cannot hold."""
    clean = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
    return "".join(_ESCAPES.get(letter, letter) for letter in clean)


def _drawn(item: Item) -> Iterator[str]:
    if isinstance(item, Box):
        yield _box(item)
    elif isinstance(item, Words):
        yield _words(item)
    else:
        yield from _way(item)


def _box(box: Box) -> str:
    place = f'x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" height="{_number(box.height)}"'
    look = f'rx="{_number(box.radius)}" fill="{box.fill}" stroke="{box.edge}" stroke-width="{_number(box.thickness)}"'
    dashes = ' stroke-dasharray="5 3"' if box.is_dashed else ""
    end = f"><title>{escaped(box.tip)}</title></rect>" if box.tip else "/>"
    return f"<rect {place} {look}{dashes}{end}"


def _words(words: Words) -> str:
    bold = ' font-weight="bold"' if words.is_bold else ""
    place = f'x="{_number(words.x)}" y="{_number(words.y)}" font-size="{_number(words.size)}"'
    return f'<text {place} fill="{words.colour}"{bold}>{escaped(words.text)}</text>'


def _way(way: Way) -> Iterator[str]:
    dashes = ' stroke-dasharray="6 4"' if way.is_dashed else ""
    points = " ".join(f"{_number(x)},{_number(y)}" for x, y in way.points)
    yield f'<polyline points="{points}" fill="none" stroke="{way.colour}" stroke-width="1.4"{dashes}/>'
    if way.is_arrow:
        corners = " ".join(f"{_number(x)},{_number(y)}" for x, y in arrow_head(way))
        yield f'<polygon points="{corners}" fill="{way.colour}"/>'


def arrow_head(way: Way) -> list[tuple[float, float]]:
    """Give the three corners of the arrow's head; ways run along the axes only."""
    (x, y), (tip_x, tip_y) = way.points[-2:]
    across, along = (tip_x > x) - (tip_x < x), (tip_y > y) - (tip_y < y)
    long, half = 7.0, 3.6
    back = (tip_x - long * across, tip_y - long * along)
    return [
        (tip_x, tip_y),
        (back[0] - half * along, back[1] + half * across),
        (back[0] + half * along, back[1] - half * across),
    ]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
