"""What people are told of a derivation: how each way of asking fared, what each class got, what is paid and why."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from app.db.derivation_tables import DerivationRow
from app.protocol.derivation import Answers, Rule
from app.protocol.derivation_price import DerivationPrice

WHY: Final[Mapping[str, str]] = {
    "later": "it is not the first of its registration, and later ones could be chosen among",
    "named": "you named the adapter, and could have named another",
    "unsaid": "the endpoint did not answer what it was asked about itself, and silence can be chosen",
    "unheard": "some covers were not answered while ways of asking were compared, and silence can be chosen",
    "open": "for want of answers classes were not mapped, and silence can be chosen",
}

FREE: Final = (
    "a fixed rule chose it from metadata and from covers committed before the labels were drawn, so it is free"
)


def report_of(rule: Rule, answers: Answers, price: DerivationPrice) -> dict[str, Any]:
    """Say how the candidates fared, what each class got and what is paid for; purity in thousandths."""
    best = rule.best(answers)
    found = [] if best is None else rule.classes_found(answers, best, rule.asked_of_best)
    return {
        "price": asdict(price),
        "candidates": [
            {
                "adapter": rule.candidates[number].adapter,
                "options": rule.candidates[number].options,
                "preprocessing": rule.candidates[number].preprocessing,
                "purity_millis": int(1000 * rule.purity(answers, number)),
                "chosen": number == best,
            }
            for number in rule.speaking(answers)
        ],
        "classes": [
            {
                "name": rule.statement.classes[one.index],
                "asked": one.asked,
                "answered": one.answered,
                "label": one.label,
                "agreeing": one.agreeing,
                "mapped": one.is_mapped,
            }
            for one in found
        ],
    }


def why_it_costs(row: DerivationRow) -> str:
    """Say in words what a derivation costs and for what."""
    if row.report is None:
        return "not derived yet"
    paid = {part: bits for part, bits in row.report["price"].items() if bits}
    return "; ".join(f"{bits} bits because {WHY[part]}" for part, bits in paid.items()) or FREE
