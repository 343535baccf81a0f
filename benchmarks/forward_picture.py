"""An SVG of pass costs: milliseconds over the number of tokens, a line for each backend and context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 30, 45
COLOURS = {"lean": "#0b7a75", "lean, 32 bits": "#5b6fb5", "transformers": "#b5562b"}
TICKS = (1, 8, 16, 24, 32, 48, 64)

Line = dict[str, Any]
Point = tuple[float, float]


def forward_picture(lines: Sequence[Line]) -> str:
    """From the lines of `bench_forward.py`."""
    passes = [line for line in lines if line.get("measure") == "pass"]
    reads = [line["read_ms"] for line in lines if line.get("measure") == "read"]
    curves: dict[tuple[str, int], list[Point]] = {}
    for line in passes:
        curves.setdefault((line["backend"], line["context"]), []).append((line["tokens"], line["ms"]))
    widest = max(tokens for points in curves.values() for tokens, _ in points)
    highest = max(ms for points in curves.values() for _, ms in points)
    step = next(each for each in (5, 10, 20, 50, 100, 200, 500, 1000) if highest / each <= 8)
    top = step * (int(highest / step) + 1)

    def place(tokens: float, ms: float) -> Point:
        across = (WIDTH - LEFT - RIGHT) * (tokens - 1) / (widest - 1)
        return LEFT + across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ms / top

    drawn = [*_axes(place, top, step, widest)]
    if reads:
        (x, y), (end, _) = place(1, reads[0]), place(widest, reads[0])
        drawn.append(f'<path d="M{x:.1f} {y:.1f}H{end:.1f}" stroke="#888" stroke-dasharray="2 4"/>')
        drawn.append(_text(end + 6, y + 4, "one read of 32-bit weights"))
    first = min(context for _, context in curves)
    for (backend, context), points in curves.items():
        placed = [place(*point) for point in sorted(points)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        dashes = "" if context == first else ' stroke-dasharray="6 3"'
        drawn.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[backend]}" stroke-width="2"{dashes}/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{COLOURS[backend]}"/>' for x, y in placed]
        drawn.append(_text(placed[-1][0] + 6, placed[-1][1] + 4, f"{backend}, {context:,}", COLOURS[backend]))
    title = f"Milliseconds of a pass over k tokens, after so many: {passes[0]['model']}, float32, "
    drawn.append(_text(LEFT, 16, f"{title}{passes[0]['threads']} threads"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11" '
            'font-family="system-ui, sans-serif">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _axes(place: Any, top: float, step: float, widest: float) -> Iterator[str]:
    for ms in range(0, int(top) + 1, int(step)):
        (x, y), (end, _) = place(1, ms), place(widest, ms)
        yield f'<path d="M{x:.1f} {y:.1f}H{end:.1f}" stroke="#ddd"/>'
        yield _text(x - 8, y + 4, str(ms), anchor="end")
    for tokens in TICKS:
        if tokens <= widest:
            x, y = place(tokens, 0)
            yield _text(x, y + 18, str(tokens), anchor="middle")
    x, y = place((1 + widest) / 2, 0)
    yield _text(x, y + 36, "tokens of the pass, k", anchor="middle")


def _text(x: float, y: float, words: str, colour: str = "#333", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'
