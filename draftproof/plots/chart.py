"""A chart of series of points with error bars, as SVG.

Series differ by colour and by the form of their points, so that the picture can be read without colours; the colours
are those of Okabe and Ito, which people tell apart whatever colours they see. Every point says what it is when it is
pointed at. All text is escaped: names come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from draftproof.plots.scale import Scale, scale

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 72, 190, 48, 62
_ACROSS, _DOWN = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_RADIUS = 4.5
_MARK_WIDTH = 22
_INK, _GRID = "#222222", "#dddddd"


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    """Ends of the error bar; None where there is none."""
    high: float | None = None
    says: str = ""
    """Shown when it is pointed at."""
    mark: str = ""
    """Written beside it; a few characters."""


@dataclass(frozen=True)
class Series:
    name: str
    points: tuple[Point, ...]
    """Joined by a line in this order."""
    level: bool = False
    """Whether a dashed line across the chart shows the height of its first point: what others are compared with."""


@dataclass(frozen=True)
class Axis:
    label: str
    """With the unit."""
    within: tuple[float, float] | None = None
    """What values are possible, such as shares from 0 to 1."""
    percent: bool = False
    """Whether ticks are written in per cent; values are shares all the same."""

    def scale(self, values: Sequence[float]) -> Scale:
        factor = 100.0 if self.percent else 1.0
        bounds = None if self.within is None else (self.within[0] * factor, self.within[1] * factor)
        return scale([value * factor for value in values], within=bounds)


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series], *, note: str = "") -> str:
    """The chart as a whole SVG document. Raises ValueError where no series has a point, or one that is not finite."""
    points = [point for each in series for point in each.points]
    over = x.scale([point.x for point in points])
    ends = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
    up = y.scale(ends)
    drawing = _Drawing(x, y, over, up)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12" '
            f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            _text(LEFT, 22, title, weight="600", size=14),
            *([_text(LEFT, 38, note, colour="#666666", size=11)] if note else []),
            *drawing.axes(),
            *(line for index, each in enumerate(series) for line in drawing.series(each, index)),
            *(line for index, each in enumerate(series) for line in _legend(each, index)),
            "</svg>\n",
        ]
    )


class _Drawing:
    """The area inside the axes."""

    def __init__(self, x: Axis, y: Axis, over: Scale, up: Scale) -> None:
        self._x, self._y, self._over, self._up = x, y, over, up
        self._marked: list[tuple[float, float]] = []
        """Where a mark stands already: another one upon it could not be read."""

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across = self._over.share(x * (100.0 if self._x.percent else 1.0))
        height = self._up.share(y * (100.0 if self._y.percent else 1.0))
        return LEFT + _ACROSS * across, TOP + _DOWN * (1.0 - height)

    def axes(self) -> Iterator[str]:
        for tick in self._up.ticks:
            at = TOP + _DOWN * (1.0 - self._up.share(tick))
            yield f'<path d="M{LEFT} {at:.1f}H{LEFT + _ACROSS}" stroke="{_GRID}"/>'
            yield _text(LEFT - 8, at + 4, self._up.label(tick), anchor="end")
        for tick in self._over.ticks:
            at = LEFT + _ACROSS * self._over.share(tick)
            yield f'<path d="M{at:.1f} {TOP}V{TOP + _DOWN}" stroke="{_GRID}"/>'
            yield _text(at, TOP + _DOWN + 18, self._over.label(tick), anchor="middle")
        yield f'<path d="M{LEFT} {TOP}V{TOP + _DOWN}H{LEFT + _ACROSS}" fill="none" stroke="{_INK}"/>'
        yield _text(LEFT + _ACROSS / 2, HEIGHT - 18, self._x.label, anchor="middle")
        middle = TOP + _DOWN / 2
        yield _text(20, middle, self._y.label, anchor="middle", turned=f'transform="rotate(-90 20 {middle:.1f})"')

    def series(self, series: Series, index: int) -> Iterator[str]:
        if not series.points:
            return
        colour = COLOURS[index % len(COLOURS)]
        placed = [(self._place(point.x, point.y), point) for point in series.points]
        yield f'<g class="series" data-name="{escape(series.name)}">'
        if series.level:
            at = self._place(series.points[0].x, series.points[0].y)[1]
            level = f"M{LEFT} {at:.1f}H{LEFT + _ACROSS}"
            yield f'<path d="{level}" stroke="{colour}" stroke-dasharray="5 4" opacity="0.6"/>'
        if len(placed) > 1:
            path = "L".join(f"{x:.1f} {y:.1f}" for (x, y), _ in placed)
            yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.75"/>'
        for (x, y), point in placed:
            if point.low is not None and point.high is not None:
                low, high = self._place(point.x, point.low)[1], self._place(point.x, point.high)[1]
                bar = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6"
                yield f'<path class="interval" d="{bar}" stroke="{colour}" stroke-width="1.2" opacity="0.6"/>'
            yield _form(index, x, y, colour, point.says or series.name)
            if point.mark and all(abs(x - left) > _MARK_WIDTH or abs(y - up) > 9 for left, up in self._marked):
                self._marked.append((x, y))
                yield _text(x + 6, y - 6, point.mark, colour="#666666", size=9)
        yield "</g>"


def _legend(series: Series, index: int) -> Iterator[str]:
    x, y = WIDTH - RIGHT + 20, TOP + 10 + 22 * index
    yield _form(index, x, y, COLOURS[index % len(COLOURS)], series.name)
    yield _text(x + 12, y + 4, series.name)


def _form(index: int, x: float, y: float, colour: str, says: str) -> str:
    """A point of the index-th form: disc, square, triangle, diamond, cross, ring, star."""
    form = index % 7
    label = f"<title>{escape(says)}</title>"
    if form in (0, 5):
        fill = f'fill="{colour}"' if form == 0 else f'fill="#ffffff" stroke="{colour}" stroke-width="2"'
        return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" {fill}>{label}</circle>'
    corners = {1: (4, math.pi / 4), 2: (3, math.pi / 2), 3: (4, math.pi / 2)}.get(form)
    if corners is not None:
        count, turn = corners
        angles = [turn + 2 * math.pi * corner / count for corner in range(count)]
        size = _RADIUS * 1.25
        path = "L".join(f"{x + size * math.cos(a):.1f} {y - size * math.sin(a):.1f}" for a in angles)
        return f'<path class="point" d="M{path}Z" fill="{colour}">{label}</path>'
    turns = (math.pi / 4, 3 * math.pi / 4) if form == 4 else (0.0, math.pi / 3, 2 * math.pi / 3)
    strokes = (
        f"M{x - _RADIUS * math.cos(a):.1f} {y - _RADIUS * math.sin(a):.1f}"
        f"L{x + _RADIUS * math.cos(a):.1f} {y + _RADIUS * math.sin(a):.1f}"
        for a in turns
    )
    return f'<path class="point" d="{"".join(strokes)}" stroke="{colour}" stroke-width="2.4">{label}</path>'


def _text(
    x: float,
    y: float,
    words: str,
    *,
    colour: str = _INK,
    anchor: str = "start",
    size: int | None = None,
    weight: str = "",
    turned: str = "",
) -> str:
    more = "".join(
        f" {part}"
        for part in (f'font-size="{size}"' if size else "", f'font-weight="{weight}"' if weight else "", turned)
        if part
    )
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
