"""A survival report as one HTML page: opens from disk, loads nothing, runs no script.

Invariants: everything from outside (family names, reasons) is escaped by the template; figures come from the report alone.
"""

from dataclasses import dataclass
from typing import Any, Final

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from app.embedding.attacks.catalogue import parse_attack
from app.embedding.recipe import MICRO
from app.embedding.survival.order import Survival, SurvivalReport
from app.embedding.survival.report import MARKED, PLAIN, WORTHLESS_POINTS, percent_text

# Kinds of attacks by what the thief does, with the colour of their points (Okabe and Ito: told apart by colour-blind eyes).
GROUPS: Final = {
    "fine-tuning": ("#0072b2", ("ftll", "ftal")),
    "re-training": ("#56b4e9", ("rtll", "rtal")),
    "overwriting": ("#cc79a7", ("pirate",)),
    "pruning": ("#009e73", ("prune",)),
    "quantisation": ("#8a7f00", ("quantise",)),
    "extraction": ("#d55e00", ("extract-hard", "extract-soft", "distill")),
    "preprocessing": ("#e69f00", ("jpeg", "noise", "resize", "median")),
    "transfer": ("#777777", ("transfer",)),
}
# Where there is no figure to show.
NOTHING: Final = "-"

STACKED_GROUP, STACKED_COLOUR = "several at once", "#7b3fa0"

# The plot, in its own units: the box of axes within the picture.
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 44

_pages = Environment(
    loader=PackageLoader("app.embedding.survival", "templates"),
    autoescape=select_autoescape(default=True),
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Point:
    """One attack in the plot: task accuracy and match rate as shares, colour and label."""

    x: float
    y: float
    colour: str
    label: str
    # Written beside the point where it matters most: unattacked, unmarked, breaking.
    name: str = ""


def render_page(report: SurvivalReport) -> str:
    """Give the page."""
    total = sum(family.size for family in report.families)
    return _pages.get_template("survival.html").render(
        report=report,
        total=total,
        rows=[_row(row, report) for row in report.attacks],
        marked=_row(report.marked, report),
        plain=None if report.plain is None else _row(report.plain, report),
        breaking=[row.measured.attack for row in report.attacks if row.breaks],
        plot=_plot(report, total),
        legend=[(name, colour) for name, (colour, _) in GROUPS.items()] + [(STACKED_GROUP, STACKED_COLOUR)],
        points=WORTHLESS_POINTS,
    )


def group_of(attack: str) -> tuple[str, str]:
    """Give an attack's group and colour."""
    if attack in (MARKED, PLAIN):
        return "none", "#000000"
    steps = parse_attack(attack)
    if len(steps) > 1:
        return STACKED_GROUP, STACKED_COLOUR
    return next((name, colour) for name, (colour, kinds) in GROUPS.items() if steps[0].kind in kinds)


def _row(row: Survival, report: SurvivalReport) -> dict[str, Any]:
    """Give a row of the table as texts and shares."""
    measured, colour = row.measured, group_of(row.measured.attack)[1]
    sizes = [family.size for family in report.families]
    return {
        "attack": measured.attack,
        "colour": colour,
        "task": percent_text(measured.task_correct, measured.task_total),
        "matches": _counts(measured.matches, sum(sizes)),
        "bars": _bars(measured.matches, sizes, report),
        "asked": _asked(row),
        "power": NOTHING if row.together is None else _percent(row.together.power_micros),
        "verdict": row.verdict.replace("_", " "),
        "breaks": row.breaks,
        "useful": row.is_useful,
        "owners_head": _counts(measured.owners_head, sum(sizes)),
        "pirate": "" if measured.pirate is None else f"{measured.pirate[0]} of {measured.pirate[1]}",
        "seconds": f"{measured.milliseconds / 1000:.1f}",
    }


def _counts(matches: tuple[int, ...] | None, total: int) -> str:
    return NOTHING if matches is None else f"{sum(matches)} of {total}"


def _bars(matches: tuple[int, ...] | None, sizes: list[int], report: SurvivalReport) -> list[dict[str, str]]:
    named = zip(report.families, matches or (), sizes, strict=matches is not None)
    return [
        {"name": family.name, "width": f"{100 * count / size:.1f}", "count": f"{count}/{size}"}
        for family, count, size in named
    ]


def _asked(row: Survival) -> str:
    expected = None if row.together is None else row.together.expected_millis
    # A mean over a handful of lucky walks says nothing.
    usual = row.together is not None and row.together.power_micros >= MICRO // 100
    return f"{expected / 1000:.0f}" if expected is not None and usual else NOTHING


def _percent(micros: int) -> str:
    if micros in (0, MICRO):
        return f"{micros * 100 // MICRO} %"
    return f"{min(max(micros * 100 / MICRO, 0.1), 99.9):.1f} %"


def _plot(report: SurvivalReport, total: int) -> Markup:
    """Draw match rate over task accuracy, with the lines that decide."""
    rows = [row for row in (report.marked, report.plain, *report.attacks) if row and row.measured.matches is not None]
    points = [_point(row, total) for row in rows]
    low = max(0.0, min(point.x for point in points) - 0.02)
    high = min(1.0, max(point.x for point in points) + 0.02)
    parts = [_axes(low, high)]
    if (needed := _needed_share(report, total)) is not None:
        parts.append(_line_across(needed, "needed for CONFIRMED"))
    measured = report.marked.measured
    worthless = measured.task_correct / measured.task_total - WORTHLESS_POINTS / 100
    if low < worthless < high:
        parts.append(_line_up(_x(worthless, low, high), f"{WORTHLESS_POINTS} points lost"))
    for point in points:
        place = f'cx="{_x(point.x, low, high):.1f}" cy="{_y(point.y):.1f}" r="5.5"'
        title = f"<title>{escape(point.label)}</title>"
        parts.append(f'<circle {place} fill="{point.colour}" fill-opacity="0.8" stroke="#fff">{title}</circle>')
        if point.name:
            x, y = _x(point.x, low, high), _y(point.y)
            side = f'x="{x - 9:.1f}" text-anchor="end"' if x > WIDTH * 0.75 else f'x="{x + 9:.1f}"'
            parts.append(f'<text {side} y="{max(y + 4, TOP + 9):.1f}">{escape(point.name)}</text>')
    label = "Share of triggers that still match, over task accuracy, for every attack"
    inside = "".join(parts)
    # Every text above is escaped or ours.
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{inside}</svg>')  # noqa: S704


def _point(row: Survival, total: int) -> Point:
    measured = row.measured
    share = sum(measured.matches or ()) / total
    task = measured.task_correct / measured.task_total
    label = f"{measured.attack}: task {100 * task:.1f} %, triggers {100 * share:.1f} %, {row.verdict}"
    name = measured.attack if row.breaks or measured.attack in (MARKED, PLAIN) else ""
    return Point(task, share, group_of(measured.attack)[1], label, "unattacked" if name == MARKED else name)


def _needed_share(report: SurvivalReport, total: int) -> float | None:
    """Give the match rate that confirms when every family matches alike: that of the family that needs least."""
    needed = [
        count / family.size
        for count, family in zip(report.needed or (), report.families, strict=False)
        if count is not None
    ]
    return min(needed) if needed and total else None


def _x(share: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (share - low) / max(high - low, 1e-9)


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _axes(low: float, high: float) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for step in range(6):
        y, x = _y(step / 5), LEFT + (right - LEFT) * step / 5
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{20 * step} %</text>')
        share = 100 * (low + (high - low) * step / 5)
        anchor = "end" if step == 5 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{share:.1f} %</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">task accuracy</text>')
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">triggers that match</text>'
    )
    return "".join(parts)


def _line_across(share: float, text: str) -> str:
    y = _y(share)
    return (
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="bound"/>'
        f'<text x="{LEFT + 6}" y="{y - 5:.1f}" class="bound">{text} ({100 * share:.0f} %)</text>'
    )


def _line_up(x: float, text: str) -> str:
    return (
        f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" class="bound"/>'
        f'<text transform="translate({x - 5:.1f} {HEIGHT - BOTTOM - 8}) rotate(-90)" class="bound">{text}</text>'
    )
