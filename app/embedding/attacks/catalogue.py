"""The attacks of a survival report by name: one step, or several joined by `+`. No torch here.

Names of steps: `ftll`, `ftal`, `rtll`, `rtal` (fine-tune or re-train, last or all layers) with a learning rate, as in
`ftal-1e-3`; `pirate` (a second mark is trained in); `transfer` (a new head for another data set, all layers trained on it);
`prune-50` (per cent of the weights, smallest first); `int8`, `int4`; `extract-hard`, `extract-soft`, `distill` (a fresh
student taught by the answers); `jpeg-70`, `noise-8`, `resize-75`, `median` (in front of the endpoint, on every input).

Invariants: what `parse_attack` takes, `course` can run; input preprocessing stands last, for it is no change of weights.
Source: Adi et al. 2018 section 5.3 (FTLL to RTAL, piracy, transfer); Lukas et al. 2022 (the others); reference values of
learning rates: Adi et al. fine-tune at the last rates of training, Lukas et al. up to 1e-2.
"""

from dataclasses import dataclass

from app.errors import Malformed

# Steps by kind, each name with its one number: a learning rate in millionths, per cent, bits, quality or deviation.
RATES = {"1e-4": 100, "1e-3": 1_000, "1e-2": 10_000}
# Beyond the literature's range: a thief with much data, who trains nearly anew.
STRONG_RATES = {"3e-2": 30_000}
TUNING = ("ftll", "ftal", "rtll", "rtal")
SHARES = (30, 50, 70, 90)
QUALITIES = (50, 60, 70, 75, 80, 90)
DEVIATIONS = (4, 8, 16)
SCALES = (50, 75)

MAX_STEPS = 4


@dataclass(frozen=True)
class Step:
    """One thing done to a network: its name, its kind, and the number it is done with (0: none)."""

    name: str
    kind: str
    number: int = 0


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        *(Step(f"{kind}-{text}", kind, rate) for kind in TUNING for text, rate in (RATES | STRONG_RATES).items()),
        Step("pirate", "pirate"),
        Step("transfer", "transfer"),
        *(Step(f"prune-{share}", "prune", share) for share in SHARES),
        Step("int8", "quantise", 8),
        Step("int4", "quantise", 4),
        *(Step(name, name) for name in ("extract-hard", "extract-soft", "distill")),
        *(Step(f"jpeg-{quality}", "jpeg", quality) for quality in QUALITIES),
        *(Step(f"noise-{deviation}", "noise", deviation) for deviation in DEVIATIONS),
        *(Step(f"resize-{scale}", "resize", scale) for scale in SCALES),
        Step("median", "median"),
    )
}

# Done to inputs on their way to the network, not to its weights.
IN_FRONT = frozenset({"jpeg", "noise", "resize", "median"})

STACKED = (
    *(f"prune-{share}+ftal-1e-3" for share in SHARES),
    "ftal-1e-2+prune-50+int8",
    "rtal-1e-3+prune-30+int8",
    "pirate+ftal-1e-3",
    "extract-soft+ftal-1e-3",
    "extract-hard+prune-50+int8",
    "ftal-1e-3+jpeg-70",
)

FULL_SUITE: tuple[str, ...] = (
    *(f"{kind}-{text}" for kind in TUNING for text in RATES),
    *(f"{kind}-{text}" for kind in ("ftal", "rtal") for text in STRONG_RATES),
    "pirate",
    "transfer",
    *(f"prune-{share}" for share in SHARES),
    "int8",
    "int4",
    "extract-hard",
    "extract-soft",
    "distill",
    "jpeg-90",
    "jpeg-70",
    "jpeg-50",
    "noise-4",
    "noise-8",
    "noise-16",
    "resize-75",
    "resize-50",
    "median",
    *STACKED,
)

# One of each kind: minutes where the full suite takes an hour.
QUICK_SUITE: tuple[str, ...] = (
    *("ftll-1e-3", "ftal-1e-3", "ftal-1e-2", "rtll-1e-3", "rtal-1e-3"),
    *("pirate", "transfer", "prune-50", "prune-90", "int8", "int4", "extract-hard", "distill"),
    *("jpeg-70", "noise-8", "resize-75"),
    *("prune-70+ftal-1e-3", "ftal-1e-2+prune-50+int8"),
)


def parse_attack(name: str, pointer: str = "") -> tuple[Step, ...]:
    """Read an attack's name into its steps.

    Raises: Malformed, naming the step at fault.
    """
    names = name.split("+")
    if len(names) > MAX_STEPS:
        raise Malformed(f"an attack has at most {MAX_STEPS} steps", pointer=pointer)
    for step in names:
        if step not in STEPS:
            raise Malformed(f"there is no attack {step!r}; there are {', '.join(STEPS)}", pointer=pointer)
    steps = tuple(STEPS[step] for step in names)
    fronts = [step.kind in IN_FRONT for step in steps]
    if fronts != sorted(fronts):
        raise Malformed("what is done to inputs stands after what is done to weights", pointer=pointer)
    if len(steps) > 1 and any(step.kind == "transfer" for step in steps):
        raise Malformed("transfer leaves another task, so it stands alone", pointer=pointer)
    return steps


def suite(kind: str, *, quick: bool, has_transfer: bool) -> tuple[str, ...]:
    """Give the attacks of a suite for inputs of a kind; without transfer data there is no transfer."""
    return tuple(
        name
        for name in (QUICK_SUITE if quick else FULL_SUITE)
        if fits(name, kind) and (has_transfer or name != "transfer")
    )


def fits(name: str, kind: str) -> bool:
    """Tell whether an attack can be made on inputs of this kind: preprocessing in front is for images."""
    return kind == "image" or not any(step.kind in IN_FRONT for step in parse_attack(name))
