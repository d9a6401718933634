"""Liars against innocent networks, thieves against the verdict: `python -m benchmarks.panels [--quick] [--panels NAMES]`.

The panel `false` counts how many claims of liars are confirmed (none may be), and beside it how many of the same the paper's
own rule accepts. The panel `evasion` counts what verdicts a stolen network gets behind all sorts of evasion, and after how
many triggers. A suspect is a function here, there is no HTTP; all that decides is the product's own code.

Trained networks of the evasion panel are kept in .trapstreet/benchmarks. Last line: one JSON object. Results:
benchmarks/results/panels.json, two tables in docs/benchmarks.md, the picture docs/pictures/panels.svg. A run of one panel
keeps the other's figures. Exit status 1 if an innocent network was confirmed.
"""

import argparse
import sys
from typing import Any

import torch

from app.embedding.train import prepare_torch
from benchmarks import evasion_models, false_claims, panels_picture
from benchmarks.evasion import COVERS_PER_TRIGGER, EVADERS, FALSE_POSITIVE, evasion_figures, flagged
from benchmarks.false_claims import false_claim_figures
from benchmarks.panel_disputes import BITS
from benchmarks.results import keep, machine, print_figures, read, say, table, write_section

PANELS = ("false", "evasion")


def main() -> None:
    """Play, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer networks, claims and orders; under five minutes")
    parser.add_argument("--panels", default=",".join(PANELS), help="which of false,evasion to play")
    parser.add_argument("--draw", action="store_true", help="only write tables and picture of the last run anew")
    options = parser.parse_args()
    panels = options.panels.split(",")
    if strange := set(panels) - set(PANELS):
        parser.error(f"there is no panel {min(strange)!r}; there are {', '.join(PANELS)}")
    prepare_torch(1)
    name, scale = ("panels-quick", "quick") if options.quick else ("panels", "full")
    played: dict[str, Any] = {}
    for panel in [] if options.draw else panels:
        played |= false_figures(scale) if panel == "false" else evasion_panel(scale)
    figures = in_order(read(name) | played)  # read late: the other panel may have been played beside this one
    if played:
        setting = {
            "bits": BITS,
            "covers_per_trigger": COVERS_PER_TRIGGER,
            "detector_false_positive": FALSE_POSITIVE,
            "evasion": vars(evasion_models.SCALES[scale]),
            "false": vars(false_claims.SCALES[scale]),
            **machine(torch.device("cpu")),
        }
        keep(name, setting, figures)
    if not options.quick:
        publish(figures)
    print_figures(figures)
    if figures.get("false_claims_confirmed"):
        sys.exit("an innocent network was CONFIRMED: this must not happen")


def false_figures(scale: str) -> dict[str, Any]:
    """Play the false-claim panel."""
    say("false-claim panel")
    return false_claim_figures(false_claims.SCALES[scale])


def evasion_panel(scale: str) -> dict[str, Any]:
    """Play the evasion panel."""
    say("evasion panel")
    chosen = evasion_models.SCALES[scale]
    scene = evasion_models.scene_of(chosen)
    return {"evaders": evasion_figures(scene, chosen.orders), "trained_detector_finds": flagged(scene)}


def in_order(figures: dict[str, Any]) -> dict[str, Any]:
    """Put accusers and evaders, which JSON keeps by name, into the order in which they are shown."""
    orders = {"accusers": tuple(false_claims.ACCUSERS), "evaders": EVADERS}
    shown = {
        part: {name: figures[part][name] for name in order if name in figures[part]}
        for part, order in orders.items()
        if part in figures
    }
    return figures | shown


def publish(figures: dict[str, Any]) -> None:
    """Write the tables and the picture of the documentation, as far as there are figures."""
    if "accusers" in figures:
        write_section("false-claims", false_claims_table(figures))
    if "evaders" in figures:
        write_section("evasion", evasion_table(figures))
    if "accusers" in figures and "evaders" in figures:
        panels_picture.PICTURE.write_text(panels_picture.draw(figures))


def false_claims_table(figures: dict[str, Any]) -> str:
    """Set a row an accuser, over all innocent networks."""
    head = (
        "accuser",
        "claims, of these refused",
        "CONFIRMED",
        "log2 E of log2 T, the nearest claim",
        "most matches known",
    )
    rows = [
        (
            f"`{name}`",
            f"{row['claims']:,}, {row['class_a_verdicts'].get('REFUSED', 0):,}",
            row["class_a_confirmed"],
            _nearest(row),
            "{} of {}".format(*row["most_matches"]),
            f"{row['paper_rule_accepts']:,} of {row['paper_rule_claims']:,}" if row["paper_rule_claims"] else "-",
            row["confirmed_without_rule"] if name.startswith(("fitting", "withholding")) else "-",
        )
        for name, row in figures["accusers"].items()
    ]
    rows.append(("together", f"{figures['claims']:,}", figures["false_claims_confirmed"], "", "", "", ""))
    kinds = ", ".join(f"{kind} {accuracy:.1%}" for kind, accuracy in figures["accuracy"].items())
    written = table((*head, "the paper's rule accepts", "CONFIRMED if our rule against it were missing"), rows)
    return f"{written}\n\nTask accuracy of the innocent networks, mean of each kind: {kinds}."


def _nearest(row: dict[str, Any]) -> str:
    """Give how far the claim came that came nearest to its threshold, if any was played."""
    bound = row["log2_t"]
    return "-" if bound is None else f"{bound + row['log2_e_over_t_max']:.1f} of {bound:.1f}"


def evasion_table(figures: dict[str, Any]) -> str:
    """Set a row an evader: task accuracy, and per family matches, verdicts and triggers."""
    families = list(next(iter(figures["evaders"].values()))["families"])
    head = ["evader", "what it does", "task", *families]
    rows = [
        [f"`{name}`", row["does"], f"{row['task_accuracy']:.1%}", *(_cell(row["families"][one]) for one in families)]
        for name, row in figures["evaders"].items()
    ]
    found = ", ".join(f"{share:.1%} of {name}" for name, share in figures["trained_detector_finds"].items())
    return f"{table(head, rows)}\n\nThe trained detector calls odd: {found} pictures."


def _cell(row: dict[str, Any]) -> str:
    total = sum(row["verdicts"].values())
    verdicts = [name if count == total else f"{count} {name}" for name, count in row["verdicts"].items()]
    needed = row["triggers_to_confirmed"]
    return f"{row['match_rate']:.0%}; {', '.join(verdicts)}" + (f" after {needed}" if needed else "")


if __name__ == "__main__":
    main()
