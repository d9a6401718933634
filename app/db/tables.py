"""Every table, on one page: the nouns of the service.

Invariants: rows of the three log tables and of `entry_nonces` are only ever inserted (grants and triggers in
migrations/ hold it, against the owner too); times are aware UTC and come from the caller, never from
the database; `_index` columns are positions in the log; what has a natural key (digest, number) has no second one.
Not here: derivations (`derivation_tables`), and the queue's tables, which belong to procrastinate; all stand beside these
in the first migration.
Insert a parent and flush before its children: classes without relationships are not ordered by their foreign keys.
Trust: secrets stand here only as hashes (API keys), sealed to a queue (marking keys) or by the service (credentials);
blinds are secret until the verdict, nonces until the beacon.
Source: docs/protocol.md sections 4-6; UUIDv7 is RFC 9562 section 5.7, made here because PostgreSQL 15 cannot.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.columns import Base, has_bytes, is_one_of

ORDER_STATES = ("queued", "running", "done", "failed", "cancelled")
VERDICTS = ("VOID", "CONFIRMED", "NON_COOPERATIVE", "NOT_SUPPORTED", "INCONCLUSIVE", "INDICATIVE")

OPENERS = ("browser", "program")

LOG_TABLES = ("log_entries", "log_nodes", "log_checkpoints")
# Append-only for the service: it may read and insert, nothing else.
APPEND_ONLY_TABLES = (*LOG_TABLES, "entry_nonces")

# Random bytes that `new_id` takes (74 bits of them are used).
ID_RANDOM_BYTES = 10

Id = Annotated[UUID, mapped_column(primary_key=True)]
# A position in the log that exists: entries are appended before what refers to them.
EntryIndex = Annotated[int, mapped_column(BigInteger, ForeignKey("log_entries.index"))]
VendorId = Annotated[UUID, mapped_column(ForeignKey("vendors.id"))]
RegistrationId = Annotated[UUID, mapped_column(ForeignKey("registrations.id"))]
DisputeId = Annotated[UUID, mapped_column(ForeignKey("disputes.id"))]


def new_id(now: datetime, randomness: bytes) -> UUID:
    """Make a UUIDv7: sorts by time, so that (vendor_id, id) pages in order of creation."""
    milliseconds = int(now.timestamp() * 1000)
    value = milliseconds << 80 | int.from_bytes(randomness[:ID_RANDOM_BYTES], "big")
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return UUID(int=value)


# --- the transparency log ---------------------------------------------------------------------------------------------


class LogEntryRow(Base):
    """One entry: canonical bytes, and their RFC 9162 leaf hash."""

    __tablename__ = "log_entries"
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    data: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[datetime]
    __table_args__ = (CheckConstraint("index >= 0", name="index_from_zero"), has_bytes("leaf_hash", 32))


class LogNodeRow(Base):
    """The hash of one complete subtree: level 0 is a leaf, `index` counts subtrees of that level."""

    __tablename__ = "log_nodes"
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes]
    __table_args__ = (has_bytes("hash", 32),)


class LogCheckpointRow(Base):
    """A signed note over the tree of one size: at most one is ever signed per size."""

    __tablename__ = "log_checkpoints"
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    note: Mapped[str]
    created_at: Mapped[datetime]


class EntryNonceRow(Base):
    """The nonce whose hash an entry holds; secret until the entry's beacon opens it."""

    __tablename__ = "entry_nonces"
    entry_index: Mapped[EntryIndex] = mapped_column(primary_key=True, autoincrement=False)
    nonce: Mapped[bytes]
    __table_args__ = (has_bytes("nonce", 32),)


# --- vendors and what they registered ---------------------------------------------------------------------------------


class VendorRow(Base):
    """Who registers watermarks and files disputes; `public_key` is Ed25519 and the current one."""

    __tablename__ = "vendors"
    id: Mapped[Id]
    name: Mapped[str]
    contact: Mapped[str]
    public_key: Mapped[bytes]
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("public_key", 32),)


class SigningChallengeRow(Base):
    """A server nonce that a new vendor signs once, to prove that it holds its key."""

    __tablename__ = "signing_challenges"
    nonce: Mapped[bytes] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiKeyRow(Base):
    """An API key: the secret was shown once and only its SHA-256 is kept."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    vendor_id: Mapped[VendorId]
    secret_sha256: Mapped[bytes]
    name: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    __table_args__ = (has_bytes("secret_sha256", 32), Index(None, "vendor_id", "id"))


class RegistrationRow(Base):
    """A trigger set's root, registered before its labels exist; `beacon_index` is the entry that drew them."""

    __tablename__ = "registrations"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    entry_index: Mapped[EntryIndex] = mapped_column(unique=True)
    statement: Mapped[bytes]
    statement_sha256: Mapped[bytes] = mapped_column(unique=True)
    signature: Mapped[bytes]
    beacon_index: Mapped[EntryIndex | None]
    created_at: Mapped[datetime]
    __table_args__ = (
        has_bytes("statement_sha256", 32),
        has_bytes("signature", 64),
        Index(None, "vendor_id", "id"),
    )


class ModelCommitmentRow(Base):
    """A vendor's dated claim to hold the weights with this digest."""

    __tablename__ = "model_commitments"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    entry_index: Mapped[EntryIndex] = mapped_column(unique=True)
    sha256: Mapped[bytes]
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("sha256", 32), Index(None, "vendor_id", "id"), Index(None, "sha256"))


# --- embedding --------------------------------------------------------------------------------------------------------


class ArtifactRow(Base):
    """A blob that this vendor uploaded or was made for it; the same bytes of two vendors are two rows and one blob."""

    __tablename__ = "artifacts"
    vendor_id: Mapped[VendorId] = mapped_column(primary_key=True)
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str]
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("sha256", 32), CheckConstraint("size_bytes >= 0", name="size_bytes_counts"))


class WorkerKeyRow(Base):
    """The public key of a queue, to which marking keys are sealed: Ed25519, then X25519."""

    __tablename__ = "worker_keys"
    id: Mapped[Id]
    queue: Mapped[str]
    public_key: Mapped[bytes] = mapped_column(unique=True)
    entry_index: Mapped[EntryIndex] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    __table_args__ = (has_bytes("public_key", 64), Index(None, "queue", "id"))


class OrderRow(Base):
    """An order to the workers of a queue; a result counts only if `job_id` and `attempt` are still the writer's."""

    __abstract__ = True
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    registration_id: Mapped[RegistrationId]
    queue: Mapped[str]
    order_json: Mapped[dict[str, Any]]
    sealed_key: Mapped[bytes]
    state: Mapped[str]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    report: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class EmbeddingRow(OrderRow):
    """An order to train a mark into a model."""

    __tablename__ = "embeddings"
    artifact_sha256: Mapped[bytes | None]
    entry_index: Mapped[EntryIndex | None]
    __table_args__ = (
        is_one_of("state", ORDER_STATES),
        has_bytes("artifact_sha256", 32),
        Index(None, "vendor_id", "id"),
        Index(None, "artifact_sha256"),
    )


class SurvivalReportRow(OrderRow):
    """An order to attack a marked model and count what is left; `notebook` is what its attempts have finished so far."""

    __tablename__ = "survival_reports"
    notebook: Mapped[dict[str, Any]] = mapped_column(default=dict)
    __table_args__ = (is_one_of("state", ORDER_STATES), Index(None, "vendor_id", "id"))


class WhiteBoxCheckRow(OrderRow):
    """An order to ask a suspect's weights, which are at hand."""

    __tablename__ = "white_box_checks"
    __table_args__ = (is_one_of("state", ORDER_STATES), Index(None, "vendor_id", "id"))


# --- disputes ---------------------------------------------------------------------------------------------------------


class SuspectRow(Base):
    """An endpoint that a vendor accuses, and how to speak with it."""

    __tablename__ = "suspects"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    name: Mapped[str]
    endpoint: Mapped[str]
    interface: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    __table_args__ = (Index(None, "vendor_id", "id"),)


class SuspectSecretRow(Base):
    """What an endpoint wants to see before it answers, sealed by the service's key for this suspect and its address.

    Only the names of the headers can be read here.
    """

    __tablename__ = "suspect_secrets"
    suspect_id: Mapped[UUID] = mapped_column(ForeignKey("suspects.id"), primary_key=True)
    kind: Mapped[str]
    header_names: Mapped[list[str]]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class EndpointBudgetRow(Base):
    """How many queries a host was sent on a day (UTC); `scope` is `disputes`, of all vendors, or a vendor's tests."""

    __tablename__ = "endpoint_budgets"
    host: Mapped[str] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    sent: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (CheckConstraint("sent >= 0", name="sent_counts"),)


class DisputeRow(Base):
    """One filing and its way to a verdict; `ordinal` counts all filings of the registration from 1."""

    __tablename__ = "disputes"
    id: Mapped[Id]
    vendor_id: Mapped[VendorId]
    registration_id: Mapped[RegistrationId]
    suspect_id: Mapped[UUID] = mapped_column(ForeignKey("suspects.id"))
    family: Mapped[str]
    ordinal: Mapped[int]
    filing_record: Mapped[bytes]
    signature: Mapped[bytes]
    blind: Mapped[bytes]
    role_blind_seed: Mapped[bytes]
    covers_sha256: Mapped[bytes | None]
    egresses: Mapped[int] = mapped_column(default=1)
    filing_index: Mapped[EntryIndex] = mapped_column(unique=True)
    beacon_index: Mapped[EntryIndex | None]
    state: Mapped[str]
    blocks_opened: Mapped[int] = mapped_column(default=0)
    blocks_probed: Mapped[int] = mapped_column(default=0)
    blocks_labelled: Mapped[int] = mapped_column(default=0)
    withheld_in_a_row: Mapped[int] = mapped_column(default=0)
    deadline_at: Mapped[datetime | None]
    # Who opened a block last: a person's browser, or a program with an API key.
    opened_by: Mapped[str | None]
    last_opened_at: Mapped[datetime | None]
    challenge: Mapped[list[int] | None]
    verdict: Mapped[str | None]
    reason: Mapped[str | None]
    asked: Mapped[int] = mapped_column(default=0)
    matches: Mapped[int] = mapped_column(default=0)
    log2_e: Mapped[str | None]
    verdict_index: Mapped[EntryIndex | None]
    bundle_sha256: Mapped[bytes | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("registration_id", "ordinal"),
        # A family is asked once (docs/decisions.md): held here too, for no code may ask it twice.
        UniqueConstraint("registration_id", "family"),
        CheckConstraint("ordinal >= 1", name="ordinal_from_one"),
        has_bytes("signature", 64),
        has_bytes("blind", 32),
        has_bytes("covers_sha256", 32),
        has_bytes("bundle_sha256", 32),
        is_one_of("verdict", VERDICTS),
        is_one_of("opened_by", OPENERS),
        CheckConstraint("matches <= asked", name="matches_were_asked"),
        Index(None, "vendor_id", "id"),
        Index(None, "deadline_at", postgresql_where="verdict IS NULL"),
    )


class BlockRow(Base):
    """One block of a dispute's challenge: inputs opened, probed, head logged, labels opened.

    `asking_milliseconds` went into the answers stored so far.
    """

    __tablename__ = "blocks"
    dispute_id: Mapped[DisputeId] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    asking_milliseconds: Mapped[int] = mapped_column(default=0)
    head: Mapped[bytes | None]
    entry_index: Mapped[EntryIndex | None]
    opened_at: Mapped[datetime | None]
    probed_at: Mapped[datetime | None]
    labelled_at: Mapped[datetime | None]
    __table_args__ = (has_bytes("head", 32),)


class OpeningRow(Base):
    """What the vendor opened of one trigger: first input key, input and path, later label key and label."""

    __tablename__ = "openings"
    dispute_id: Mapped[Id]
    trigger_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    block: Mapped[int]
    input_key: Mapped[bytes]
    input: Mapped[bytes]
    label_commitment: Mapped[bytes]
    path: Mapped[list[bytes]]
    label_key: Mapped[bytes | None]
    label: Mapped[int | None]
    __table_args__ = (
        ForeignKeyConstraint(["dispute_id", "block"], ["blocks.dispute_id", "blocks.number"]),
        has_bytes("input_key", 32),
        has_bytes("label_key", 32),
    )


class QueryRow(Base):
    """One query as sent and answered: transcript record, committed role with its blind, raw request and response."""

    __tablename__ = "queries"
    dispute_id: Mapped[Id]
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    block: Mapped[int]
    record: Mapped[bytes]
    role: Mapped[bytes]
    blind: Mapped[bytes]
    request: Mapped[bytes]
    response: Mapped[bytes | None]
    __table_args__ = (
        ForeignKeyConstraint(["dispute_id", "block"], ["blocks.dispute_id", "blocks.number"]),
        has_bytes("blind", 32),
    )
