"""A picture of curves as SVG, to stand in a page: no script, no link, nothing from elsewhere."""

import math
from html import escape

from lamoid.recipes.run_curves import Curve, Picture

_WIDTH, _HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 44


def draw_svg(shown: Picture, number: int) -> str:
    """Draw a picture; ``number`` tells it from the others of the page."""
    across, up = _Scale(0.0, shown.end, _LEFT, _WIDTH - _RIGHT), _Scale(shown.low, shown.high, _HEIGHT - _BOTTOM, _TOP)
    box = f'x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT - _TOP - _BOTTOM}"'
    return "\n".join(
        [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="loss over {shown.over}">',
            f'<clipPath id="inside{number}"><rect {box}/></clipPath>',
            *(_line(_LEFT, up(y), _WIDTH - _RIGHT, up(y)) for y in ticks(shown.low, shown.high)),
            *(_line(across(x), _TOP, across(x), _HEIGHT - _BOTTOM) for x in ticks(0.0, shown.end)),
            *(_text(_LEFT - 6, up(y) + 4, number_text(y), "end") for y in ticks(shown.low, shown.high)),
            *(_text(across(x), _HEIGHT - _BOTTOM + 16, number_text(x), "middle") for x in ticks(0.0, shown.end)),
            _text((_LEFT + _WIDTH) / 2, _HEIGHT - 8, shown.over, "middle"),
            f'<g clip-path="url(#inside{number})">',
            *(_curve(curve, across, up) for curve in shown.curves),
            "</g>",
            "</svg>",
        ]
    )


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Give round places between ``low`` and ``high``: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [at * step for at in range(first, last + 1)]


def number_text(value: float) -> str:
    """Write a place on an axis shortly: 12k, 3M, 0.25."""
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{mark}"
    return f"{value:.4g}"


class _Scale:
    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.span, self.begin, self.length = low, (high - low) or 1.0, begin, end - begin

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / self.span * self.length


def _curve(curve: Curve, across: _Scale, up: _Scale) -> str:
    places = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve.points)
    faint = ' stroke-opacity="0.5"' if curve.kind == "training" else ' stroke-width="2"'
    title = f"<title>{escape(curve.name)}, {curve.kind}</title>"
    if len(curve.points) == 1:
        x, y = curve.points[0]
        return f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{curve.colour}">{title}</circle>'
    return f'<polyline points="{places}" fill="none" stroke="{curve.colour}"{faint}>{title}</polyline>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
