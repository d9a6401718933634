"""Table 1 and figure 6 as bars, ours beside the paper's."""

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.cifar10 import ROOT

PICTURE = ROOT / "docs" / "pictures" / "paper.png"

TITLES = {"no_mark": "no mark", "from_scratch": "from scratch", "into_trained": "into a trained network"}

# Test and trigger accuracy in percent. Source: Adi et al. 2018, table 1 as printed; figure 6 read off, within half a point
# (the paper scores RTLL and RTAL with the owner's own last layer put back).
PAPER_TABLE_1 = {"no_mark": (93.42, 7.0), "from_scratch": (93.81, 100.0), "into_trained": (93.65, 100.0)}
PAPER_FIGURE_6 = {
    "from_scratch": {"ftll": (93.7, 100), "ftal": (93.7, 100), "rtll": (93.7, 100), "rtal": (93.7, 100)},
    "into_trained": {"ftll": (93.7, 100), "ftal": (93.7, 95), "rtll": (93.7, 100), "rtal": (93.7, 80)},
}

INK, PALE = "#222222", "#cccccc"
COLOURS = {"test": "#4c78a8", "own": "#e45756", "original": "#f2b6a0", "paper test": "#b9c9dc", "paper": "#999999"}
LEGEND = {
    "test": "task, ours",
    "paper test": "task, paper",
    "own": "triggers, as the network answers",
    "original": "triggers, owner's head put back (no evidence)",
    "paper": "triggers, paper",
}

PANEL, BAR, GAP, GROUP_GAP, TOP, HEIGHT, BOTTOM = 480, 16, 2, 12, 70, 220, 40
WIDTH = 3 * PANEL


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw one row of groups a marked network: without attack, then after each."""
    rows = {
        "table 1": [(title, _bars(figures["table_1"][name], PAPER_TABLE_1[name])) for name, title in TITLES.items()]
    }
    for name in ("from_scratch", "into_trained"):
        rows[f"figure 6: {TITLES[name]}, attacked"] = [
            (kind.upper(), _bars(one, PAPER_FIGURE_6[name][kind])) for kind, one in figures["figure_6"][name].items()
        ]
    page = Image.new("RGB", (WIDTH, 40 + TOP + HEIGHT + BOTTOM), "white")
    pen = ImageDraw.Draw(page)
    _legend(pen)
    for number, (title, groups) in enumerate(rows.items()):
        _panel(pen, (60 + number * PANEL, 40), title, groups)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)


def _bars(ours: dict[str, float], paper: tuple[float, float]) -> dict[str, float]:
    found = {"test": ours["test"], "paper test": paper[0], "own": ours["trigger"]}
    if "trigger_original_head_not_evidence" in ours:
        found["original"] = ours["trigger_original_head_not_evidence"]
    return {**found, "paper": paper[1]}


def _legend(pen: ImageDraw.ImageDraw) -> None:
    left, font = 60, ImageFont.load_default(14)
    for name, text in LEGEND.items():
        pen.rectangle((left, 16, left + 12, 28), COLOURS[name])
        pen.text((left + 18, 22), text, INK, font, anchor="lm")
        left += 18 + int(pen.textlength(text, font)) + 24


def _panel(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], title: str, groups: list[tuple[str, dict[str, float]]]
) -> None:
    left, bottom = corner[0], corner[1] + TOP + HEIGHT
    pen.text((left, corner[1] + 30), title, INK, ImageFont.load_default(16), anchor="lm")
    small = ImageFont.load_default(11)
    for percent in (0, 50, 100):
        y = bottom - HEIGHT * percent // 100
        pen.line((left, y, left + PANEL - 70, y), PALE)
        pen.text((left - 8, y), f"{percent} %", INK, small, anchor="rm")
    at = left + 10
    for name, bars in groups:
        start = at
        for kind, value in bars.items():
            y = bottom - int(HEIGHT * value / 100)
            pen.rectangle((at, y, at + BAR, bottom), COLOURS[kind])
            pen.text((at + BAR // 2, y - 3), f"{value:.0f}", INK, ImageFont.load_default(9), anchor="ms")
            at += BAR + GAP
        pen.text(((start + at) // 2, bottom + 8), name, INK, ImageFont.load_default(13), anchor="mt")
        at += GROUP_GAP * (5 if len(groups) == len(TITLES) else 1)
