"""Both panels as one SVG: how near liars come to their threshold, and what verdicts thieves get."""

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.cifar10 import ROOT

PICTURE = ROOT / "docs" / "pictures" / "panels.svg"

# Okabe and Ito: told apart by colour-blind eyes.
COLOURS = {
    "CONFIRMED": "#d55e00",
    "NON_COOPERATIVE": "#e69f00",
    "INCONCLUSIVE": "#bbbbbb",
    "NOT_SUPPORTED": "#56b4e9",
}
ACCEPTED, REACHED, INK, PALE = "#d55e00", "#0072b2", "#222222", "#dddddd"

WIDTH, ROW, TOP, LEFT = 1120, 22, 88, 190
BAR = 300  # length of a whole bar
GAP = 30  # between two columns of bars


def draw(figures: dict[str, Any]) -> str:
    """Draw both panels, one below the other."""
    accusers, evaders = figures["accusers"], figures["evaders"]
    second = TOP + ROW * len(accusers) + 50
    height = second + TOP + ROW * len(evaders) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_false_claims(accusers),
        *_evasion(evaders, second),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = INK) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
    )


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW - 8}" fill="{colour}"/>'


def _false_claims(accusers: dict[str, Any]) -> Iterator[str]:
    confirmed = sum(row["class_a_confirmed"] for row in accusers.values())
    claims = sum(row["claims"] for row in accusers.values())
    columns = (LEFT, LEFT + BAR + GAP)
    yield _text(20, 28, f"Liars against innocent networks: {confirmed} of {claims:,} claims CONFIRMED", size=16)
    yield _text(columns[0], 56, "the paper's rule accepts, share of claims")
    yield _text(columns[1], 56, "here: log2 E of the claim that came nearest to the log2 T it must reach")
    for number, (name, row) in enumerate(accusers.items()):
        y = TOP - 16 + ROW * number
        yield _text(LEFT - 10, y + 11, name.replace("_", " "), anchor="end")
        asked = row["paper_rule_claims"]
        for x in columns:
            yield _bar(x, y, BAR, PALE)
        if asked:
            share = row["paper_rule_accepts"] / asked
            yield _bar(columns[0], y, BAR * share, ACCEPTED)
            yield _text(columns[0] + 6, y + 11, f"{share:.0%}" if share >= 0.1 or not share else f"{share:.1%}")
        else:
            yield _text(columns[0] + 6, y + 11, "it knows no withdrawal")
        refused = row["class_a_verdicts"].get("REFUSED", 0)
        if row["log2_t"] is None:
            yield _text(columns[1] + 6, y + 11, "all refused at filing")
            continue
        reached = max(row["log2_t"] + row["log2_e_over_t_max"], 0.0)
        yield _bar(columns[1], y, BAR * min(reached / row["log2_t"], 1), REACHED)
        said = f"{reached:.1f} of {row['log2_t']:.0f} bits" + (
            f"; {refused} of {row['claims']} refused" if refused else ""
        )
        yield _text(columns[1] + BAR + 8, y + 11, said)


def _evasion(evaders: dict[str, Any], top: int) -> Iterator[str]:
    families = list(next(iter(evaders.values()))["families"])
    columns = [LEFT + 60 + number * (BAR + GAP + 60) for number in range(len(families))]
    yield _text(20, top + 8, "A stolen network behind evasion: share of challenge orders by verdict", size=16)
    at = LEFT + 60.0
    for verdict, colour in COLOURS.items():
        yield _bar(at, top + 20, 14, colour)
        yield _text(at + 20, top + 31, verdict)
        at += 170
    yield _text(LEFT + 48, top + 60, "task", anchor="end")
    for x, family in zip(columns, families, strict=True):
        yield _text(x, top + 60, f"{family} triggers (and the mean number to CONFIRMED)")
    for number, (name, row) in enumerate(evaders.items()):
        y = top + TOP - 16 + ROW * number
        yield _text(LEFT - 10, y + 11, name, anchor="end")
        yield _text(LEFT + 48, y + 11, f"{row['task_accuracy']:.0%}", anchor="end")
        for x, family in zip(columns, families, strict=True):
            yield from _verdicts(x, y, row["families"][family])


def _verdicts(x: float, y: float, row: dict[str, Any]) -> Iterator[str]:
    total, at = sum(row["verdicts"].values()), x
    for verdict, colour in COLOURS.items():
        width = BAR * row["verdicts"].get(verdict, 0) / total
        if width:
            yield _bar(at, y, width, colour)
        at += width
    if row["triggers_to_confirmed"]:
        yield _text(x + BAR + 8, y + 11, f"{row['triggers_to_confirmed']:.0f}")
