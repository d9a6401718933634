"""What a filing would cost and need, before it is made: families that are left, interfaces and their price, covers at hand.

Invariants: nothing is stored and nothing is sent; what is shown here is decided again when the dispute is filed.
Source: docs/protocol.md sections 7 and 8.1.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.derivation_tables import DerivationRow
from app.db.tables import ArtifactRow, DisputeRow, RegistrationRow, SuspectRow
from app.disputes.derivation import DONE
from app.disputes.filing import CheckedFiling, count_filings, price_of_filing
from app.disputes.suspects import list_suspects, price_in_bits
from app.errors import Refused
from app.keys.statement import Statement
from app.protocol.derivation import DerivationHead
from app.protocol.evidence import can_reach, threshold
from app.protocol.interface import BUILT_IN_BITS, BY_CLAIMANT, Interface, InterfaceOrigin
from app.protocol.ranking import can_rank_reach
from app.protocol.records import BITS

MAX_SHOWN = 100


@dataclass(frozen=True)
class FamilyOutlook:
    """A family of a registration: what its next filing must reach with a built-in interface, or which dispute spent it.

    `bound` is T; `least` how many triggers reach it if all match, None if not even all do. In class B both mean nothing.
    """

    name: str
    size: int
    spent_by: UUID | None
    bound: int
    least: int | None


@dataclass(frozen=True)
class SuspectChoice:
    """A suspect with one of the interfaces that it may be asked through; `refusal` says why it may not."""

    suspect_id: UUID
    name: str
    endpoint: str
    interface: Interface
    origin: InterfaceOrigin
    bits: int
    refusal: str = ""

    @property
    def value(self) -> str:
        """Give the choice as a form carries it."""
        return f"{self.suspect_id} {self.origin.kind}"


@dataclass(frozen=True)
class CoverChoice:
    """An uploaded file that may be a cover set."""

    sha256: bytes
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class Reckoning:
    """What a checked filing must reach: T, what its interface adds to it, and the least number of triggers that reach it."""

    ordinal: int
    price: int
    bound: int
    triggers: int
    least: int | None


def next_ordinal(session: Session, registration: RegistrationRow) -> int:
    """Give the number that the next filing of a registration would have."""
    return 1 + count_filings(session, registration)


def family_outlooks(session: Session, registration: RegistrationRow, statement: Statement) -> list[FamilyOutlook]:
    """Say of each family what its next filing must reach."""
    query = select(DisputeRow.family, DisputeRow.id).where(DisputeRow.registration_id == registration.id)
    spent = dict(session.execute(query).tuples().all())
    bound = threshold(BITS[0], BUILT_IN_BITS, len(statement.families), next_ordinal(session, registration))
    return [
        FamilyOutlook(
            name=family.name,
            size=family.size,
            spent_by=spent.get(family.name),
            bound=bound,
            least=least_to_reach(bound, family.size, len(statement.classes)),
        )
        for family in statement.families
    ]


def suspect_choices(
    session: Session, vendor_id: UUID, registration: RegistrationRow, statement: Statement
) -> list[SuspectChoice]:
    """List a vendor's suspects with what each of their interfaces costs for a registration."""
    choices = []
    for row in list_suspects(session, vendor_id, None, MAX_SHOWN, newest_first=True):
        choices.append(_by_claimant(row, statement))
        choices += _derived(session, row, registration)
    return choices


def cover_choices(session: Session, vendor_id: UUID) -> Sequence[CoverChoice]:
    """List what a vendor uploaded that may be a cover set, the newest first."""
    query = select(ArtifactRow).where(ArtifactRow.vendor_id == vendor_id, ArtifactRow.media_type == "application/json")
    rows = session.scalars(query.order_by(ArtifactRow.created_at.desc()).limit(MAX_SHOWN)).all()
    return [CoverChoice(row.sha256, row.size_bytes, row.created_at) for row in rows]


def reckon(session: Session, filing: CheckedFiling) -> Reckoning:
    """Say what a checked filing must reach."""
    record, statement = filing.record, filing.statement
    ordinal, price = next_ordinal(session, filing.registration), price_of_filing(filing)
    bound = threshold(record.policy.bits, price, len(statement.families), ordinal, ranking=record.by_ranking)
    triggers = min(statement.family(record.family).size, record.policy.max_triggers)
    least = least_to_reach(bound, triggers, len(statement.classes), by_ranking=record.by_ranking)
    return Reckoning(ordinal, price, bound, triggers, least)


def least_to_reach(bound: int, triggers: int, classes: int, *, by_ranking: bool = False) -> int | None:
    """Give how many triggers reach T if every one matches, of those there are."""
    reaches = can_rank_reach if by_ranking else can_reach
    least = bisect_left(range(triggers + 1), 1, key=lambda count: reaches(bound, count, classes) if count else False)
    return None if least > triggers else least


def _by_claimant(row: SuspectRow, statement: Statement) -> SuspectChoice:
    interface = Interface.from_json(row.interface)
    try:
        bits, refusal = price_in_bits(interface, statement, row.endpoint), ""
    except Refused as error:
        bits, refusal = 0, error.message
    return SuspectChoice(row.id, row.name, row.endpoint, interface, BY_CLAIMANT, bits, refusal)


def _derived(session: Session, row: SuspectRow, registration: RegistrationRow) -> list[SuspectChoice]:
    query = select(DerivationRow).where(
        DerivationRow.registration_id == registration.id,
        DerivationRow.endpoint == row.endpoint,
        DerivationRow.state == DONE,
    )
    found = []
    for derivation in session.scalars(query):
        head = DerivationHead.parse(derivation.head or b"")
        origin = InterfaceOrigin("derived", derivation.entry_index, b"", b"")
        if head.interface is not None:
            found.append(SuspectChoice(row.id, row.name, row.endpoint, head.interface, origin, head.bits))
    return found
