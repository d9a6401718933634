"""Pictures of evidence as SVG: the walk of E towards its threshold, and what a thousand placebo beacons gave.

The same text stands in a page, in a file and in a PDF: attributes say how it looks, and a page's style may say better.

Invariants: nothing of a stranger stands in a picture, only numbers; floats are for drawing, decisions compare integers.
"""

from collections.abc import Sequence
from math import ceil, isfinite

from markupsafe import Markup

from app.portal.rendering import odds

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 18, 40
MAX_TICKS = 6

AXIS = 'class="axis" stroke="currentColor" stroke-width="1"'
LINE = 'class="line" fill="none" stroke="#0172ad" stroke-width="2"'
LIMIT = 'class="limit" fill="none" stroke="#a4262c" stroke-width="1.5" stroke-dasharray="6 4"'
TEXT = 'font-size="12" fill="currentColor"'


def evidence_plot(walk: Sequence[float], threshold: float) -> Markup:
    """Draw log2 of E after each trigger, and log2 of the threshold that it must reach."""
    drawn = [value for value in walk if isfinite(value)]
    low, high = min([0.0, *drawn]), max([threshold, 1.0, *drawn])
    last = max(len(walk), 1)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / last

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - max(value, low)) / (high - low)

    points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate([0.0, *walk]))
    said = f"After {len(walk)} triggers log2 of E is {walk[-1]:.1f}" if walk else "Nothing is opened yet"
    parts = [
        _frame(x(0), x(last)),
        *(_tick_x(x(at), at) for at in _ticks(last)),
        *(_tick_y(y(value), value) for value in _ticks(ceil(high), start=ceil(low))),
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(threshold):.1f}" y2="{y(threshold):.1f}" {LIMIT}/>',
        f'<text x="{LEFT + 6}" y="{y(threshold) + 14:.1f}" {TEXT}>threshold 2^{threshold:.0f}, {odds(threshold)}</text>',
        f'<polyline points="{points}" {LINE}/>',
        _caption("triggers opened, in challenge order", "log2 E"),
    ]
    return _svg("The evidence after each trigger", f"{said}; the threshold is {threshold:.1f}.", parts)


def placebo_plot(histogram: Sequence[int], matches: int) -> Markup:
    """Draw how many of the placebo beacons gave so many matches, and how many there really were."""
    last = max(len(histogram) - 1, matches, 1)
    most = max([1, *histogram])
    step = (WIDTH - LEFT - RIGHT) / (last + 1)

    def x(at: float) -> float:
        return LEFT + step * (at + 0.5)

    def y(count: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (most - count) / most

    bars = [
        f'<rect x="{x(at) - 0.45 * step:.1f}" y="{y(count):.1f}" width="{0.9 * step:.1f}" '
        f'height="{HEIGHT - BOTTOM - y(count):.1f}" class="bar" fill="#0172ad"/>'
        for at, count in enumerate(histogram)
        if count
    ]
    side = ("end", -6) if x(matches) > WIDTH / 2 else ("start", 6)
    parts = [
        *bars,
        _frame(LEFT, WIDTH - RIGHT),
        *(_tick_x(x(at), at) for at in _ticks(last)),
        *(_tick_y(y(count), count) for count in _ticks(most)),
        f'<line x1="{x(matches):.1f}" x2="{x(matches):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" {LIMIT}/>',
        f'<text x="{x(matches) + side[1]:.1f}" y="{TOP + 12}" text-anchor="{side[0]}" {TEXT}>this endpoint: {matches}</text>',
        _caption("matches", "placebos"),
    ]
    said = f"1000 placebo beacons gave 0 to {max(len(histogram) - 1, 0)} matches; the real one gave {matches}."
    return _svg("Matches under placebo beacons", said, parts)


def _svg(title: str, description: str, parts: Sequence[str]) -> Markup:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" class="plot" role="img">'
    # Numbers and words of ours alone: see the invariants.
    return Markup(f"{head}<title>{title}</title><desc>{description}</desc>{''.join(parts)}</svg>")  # noqa: S704


def _frame(left: float, right: float) -> str:
    foot = HEIGHT - BOTTOM
    down = f'<line x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{foot}" {AXIS}/>'
    return f'{down}<line x1="{left:.1f}" x2="{right:.1f}" y1="{foot}" y2="{foot}" {AXIS}/>'


def _tick_x(x: float, value: int) -> str:
    foot = HEIGHT - BOTTOM
    return f'<text x="{x:.1f}" y="{foot + 16}" text-anchor="middle" {TEXT}>{value}</text>'


def _tick_y(y: float, value: int) -> str:
    return f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {TEXT}>{value}</text>'


def _caption(across: str, up: str) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    below = f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle" {TEXT}>{across}</text>'
    return f'{below}<text x="4" y="{TOP - 6}" {TEXT}>{up}</text>'


def _ticks(last: int, start: int = 0) -> list[int]:
    """Give a handful of round numbers from `start` to `last`."""
    span = max(last - start, 1)
    unit = 1
    while span / unit > MAX_TICKS:
        unit = unit * 5 // 2 if str(unit)[0] == "2" else unit * 2
    return [value for value in range(start - start % unit, last + 1, unit) if value >= start]
