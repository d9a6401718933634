"""The picture of a training: loss and trigger accuracy after each epoch, as SVG.

Invariants: only numbers that `app.embedding.progress` has checked stand in it.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 72, 72, 16, 36


def curve_plot(curve: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the curve of the run that trains now or trained last; nothing before the first epoch."""
    runs = [list(points) for _, points in groupby(curve, key=lambda point: point["run"])]
    if not runs:
        return Markup("")
    points = runs[-1]
    epochs = max(point["epoch"] for point in points) or 1
    most = max([1e-9, *(float(point["loss"]) for point in points)])

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / epochs

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(share, 0.0), 1.0))

    loss = " ".join(f"{x(point['epoch']):.1f},{y(point['loss'] / most):.1f}" for point in points)
    answered = " ".join(f"{x(point['epoch']):.1f},{y(point['trigger_accuracy']):.1f}" for point in points)
    last = points[-1]
    said = f"epoch {last['epoch']}: loss {last['loss']:.3g}, {last['trigger_accuracy']:.0%} of the triggers"
    return Markup(  # noqa: S704  # numbers only
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="curve-title">'
        f'<title id="curve-title">Loss and trigger accuracy: {said}</title>'
        f'<path class="axis" fill="none" stroke="currentColor" '
        f'd="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}V{TOP}"/>'
        f'<polyline class="limit" fill="none" stroke="#a4262c" points="{loss}"/>'
        f'<polyline class="line" fill="none" stroke="#0172ad" points="{answered}"/>'
        f'<text x="4" y="{TOP + 8}">{most:.3g}</text><text x="4" y="{HEIGHT - BOTTOM}">0</text>'
        f'<text x="{WIDTH - RIGHT + 4}" y="{TOP + 8}">100 %</text>'
        f'<text x="{WIDTH - RIGHT + 4}" y="{HEIGHT - BOTTOM}">0 %</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">epoch 0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{epochs}</text></svg>'
    )


def time_left(progress: Mapping[str, Any]) -> str:
    """Say how long the run may still take at its worker's pace; nothing before there is one."""
    seconds = progress.get("seconds_left")
    if not seconds:
        return ""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds > 1.5 * length:
            return f"about {seconds / length:.0f} {unit}"
    return "about 1 second" if seconds == 1 else f"about {seconds} seconds"
