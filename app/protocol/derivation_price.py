"""What a derived interface costs: what a claimant who knew the labels could have chosen by how he had it derived.

The first derivation of a registration, by metadata, at an endpoint that answered or plainly refused everything, is free:
there was nothing to choose. Else a choice is paid, each so that all its outcomes together add less than 1/128 to the one
chance in T:

  later       which of several hosts is used: 6 + 2 * bits(ordinal - 1)
  named       which adapter is named: 12 bits
  unsaid      which descriptions a silence hid: 10 bits and their names among those asked for, or a bit each
  unheard     which candidate a silence favoured: 8 bits and the candidate's number
  open        which classes a silence kept from being mapped: 9 bits and their names, or a bit a class

A silence is what somebody beside the endpoint can cause: no answer in time, a limit, a key that is not accepted, a server
that is too busy. An answer that says that such a request is not taken is none. Where some covers of a candidate got labels
and others did not, those count as silences whatever they got.

Invariants: pure; all choices together add less than 1/32.
Source: docs/protocol.md section 7.1; the prices are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from app.protocol.derivation import Answers, MetadataAnswer, Pair, Rule

# What the endpoint itself answers to a request that it does not take; nobody else makes it say so.
REFUSALS = frozenset({400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 500, 501})

NAMED_BITS = 12


@dataclass(frozen=True)
class DerivationPrice:
    """A price by what there was to choose, in bits each."""

    later: int = 0
    named: int = 0
    unsaid: int = 0
    unheard: int = 0
    open: int = 0

    @property
    def bits(self) -> int:
        """Give the price as a whole."""
        return sum(getattr(self, part.name) for part in fields(self))


def price_derivation(
    ordinal: int,
    adapter: str | None,
    metadata: Sequence[MetadataAnswer],
    rule: Rule,
    answers: Answers,
    statuses: Mapping[Pair, int | None],
) -> DerivationPrice:
    """Give what a derivation costs, from everything that was asked and what came of it."""
    unsaid = sum(not is_refusal(said.status) for said in metadata)
    return DerivationPrice(
        later=later_bits(ordinal),
        named=0 if adapter is None else NAMED_BITS,
        unsaid=10 + set_bits(unsaid, len(metadata)) if unsaid else 0,
        unheard=8 + len(rule.candidates).bit_length() if _is_any_unheard(rule, answers, statuses) else 0,
        open=open_bits(rule.open_classes(answers), len(rule.statement.classes)),
    )


def later_bits(ordinal: int) -> int:
    """Give what it costs that a registration has derived elsewhere before: sum over ordinals from 2 of 2^-bits < 1/128."""
    return 0 if ordinal == 1 else 6 + 2 * (ordinal - 1).bit_length()


def open_bits(open_classes: int, classes: int) -> int:
    """Give what classes cost that missing answers may have kept from being mapped."""
    return 9 + set_bits(open_classes, classes) if open_classes else 0


def set_bits(count: int, of: int) -> int:
    """Give the length of a name for `count` of so many: by their numbers, or by a bit each."""
    return min(count * of.bit_length(), of)


def is_refusal(status: int | None) -> bool:
    """Tell whether this is the endpoint's own answer, not what somebody else's doing may have made of it."""
    return status is not None and (status < 400 or status in REFUSALS)  # answers, and redirections


def _is_any_unheard(rule: Rule, answers: Answers, statuses: Mapping[Pair, int | None]) -> bool:
    compared = set(rule.first_part)
    said: dict[int, list[bool]] = {}
    for (candidate, cover), labels in answers.items():
        if cover in compared:
            said.setdefault(candidate, []).append(bool(labels))
            if not labels and not is_refusal(statuses[candidate, cover]):
                return True
    return any(any(heard) and not all(heard) for heard in said.values())
