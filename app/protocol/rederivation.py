"""A derivation checked: the rule run again on what was recorded, asking nobody.

Invariants: pure; what is accepted was asked in the order of the rule, about committed covers, and led to this interface.
Source: docs/protocol.md section 7.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.canonical import sha256
from app.errors import ProofError
from app.keys.cover_set import CoverTable
from app.keys.statement import Statement
from app.protocol.derivation import Derivation, DerivationQuery, MetadataAnswer, Pair, Rule
from app.protocol.derivation_price import price_derivation
from app.protocol.interface import Interface
from app.protocol.records import ModelEntry
from app.signature import verify_signature


class CandidateCodec(Protocol):
    """What knows the adapters: where they ask for metadata, and which candidates follow from it, in the rule's order."""

    def metadata_paths(self, at: Mapping[str, Any], adapter: str | None) -> Sequence[tuple[str, str]]:
        """Name adapter and path of every request for metadata; `adapter` is one that the claimant named."""

    def rule_of(
        self,
        at: Mapping[str, Any],
        adapter: str | None,
        metadata: Sequence[MetadataAnswer],
        statement: Statement,
        covers: CoverTable,
    ) -> Rule:
        """Give the rule over what is to be compared; the candidates' label maps are not used."""

    def decode_request(
        self, interface: Interface, body: bytes, statement: Statement, expected: bytes | None = None
    ) -> bytes:
        """Read the canonical input out of a request."""

    def read_answer(
        self, interface: Interface, status: int, body: bytes, statement: Statement
    ) -> tuple[tuple[str, ...], str]:
        """Read the endpoint labels out of a response that arrived whole, or the word for why there are none."""


def verify_derivation_entry(entry: ModelEntry, derivation: Derivation, log_key: bytes) -> None:
    """Check that the service itself logged this derivation.

    Raises: ProofError; SignatureInvalid.
    """
    if entry.owner_key != log_key or entry.sha256 != sha256(derivation.encode()):
        raise ProofError("the log does not hold this derivation as the service's own")
    verify_signature(log_key, entry.signature, ModelEntry.signed_bytes(log_key, entry.sha256))


def verify_derivation(derivation: Derivation, statement: Statement, covers: CoverTable, codec: CandidateCodec) -> None:
    """Run the rule again and compare what it asks and what it gives.

    Raises: ProofError; Malformed.
    """
    head, queries = derivation.head, derivation.queries
    if [(answer.adapter, answer.path) for answer in head.metadata] != list(codec.metadata_paths(head.at, head.adapter)):
        raise ProofError("the derivation did not ask for metadata as the rule says")
    rule = codec.rule_of(head.at, head.adapter, head.metadata, statement, covers)
    answers: dict[Pair, tuple[str, ...]] = {}
    while pairs := rule.next_pairs(answers):
        lot = queries[len(answers) : len(answers) + len(pairs)]
        if [query.pair for query in lot] != pairs:
            raise ProofError("the derivation asked otherwise than the rule says")
        for query in lot:
            _check_query(query, rule, codec)
            answers[query.pair] = query.labels
    if len(answers) != len(queries):
        raise ProofError("the derivation asked more than the rule says")
    if rule.interface(answers) != head.interface:
        raise ProofError("the rule gives another interface")
    statuses = {query.pair: query.status for query in queries}
    price = price_derivation(head.ordinal, head.adapter, head.metadata, rule, answers, statuses)
    if head.bits != price.bits:
        raise ProofError("the derivation costs something else by the rule")


def _check_query(query: DerivationQuery, rule: Rule, codec: CandidateCodec) -> None:
    interface = rule.candidates[query.candidate]
    sent = codec.decode_request(interface, query.request, rule.statement)
    if sha256(sent) != rule.covers.digests[query.cover]:
        raise ProofError(f"the derivation asked something else than cover {query.cover}")
    if query.status is None or not query.response:
        if query.labels or not query.error:
            raise ProofError("the derivation records an answer without its response")
        return
    if codec.read_answer(interface, query.status, query.response, rule.statement) != (query.labels, query.error):
        raise ProofError("the derivation's labels are not what the response says")
