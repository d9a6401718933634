"""Evidence with one thing changed and everything that depends on it repaired, so that a test breaks one check alone."""

from collections.abc import Iterable
from dataclasses import replace

from app.protocol.assessment import Evidence, Logged
from app.protocol.transcript import FIRST_HEAD, AskedQuery, block_head
from app.signature import sign
from tests.unit.protocol.dispute_in_memory import VENDOR_KEY


def relogged(logged: Logged, *, index: int | None = None, **changes) -> Logged:
    """The same entry with other values, as if it had been logged so."""
    entry = replace(logged.entry, **changes)
    return Logged(logged.index if index is None else index, entry, entry.encode())


def reasked(evidence: Evidence, queries: Iterable[AskedQuery]) -> Evidence:
    """Other queries, with the heads in the log computed over them."""
    queries = tuple(queries)
    head, blocks = FIRST_HEAD, []
    for block in evidence.blocks:
        number = block.entry.block
        head = block_head(head, number, (query.record for query in queries if query.block == number))
        blocks.append(relogged(block, head=head))
    return replace(evidence, queries=queries, blocks=tuple(blocks))


def resealed(evidence: Evidence, **changes) -> Evidence:
    """Another filing record, signed and hidden in the filing entry; what is asked would then be in another order."""
    record = replace(evidence.record, **changes)
    filing = relogged(evidence.filing, record_hash=record.hidden_hash(evidence.blind))
    return replace(evidence, record=record, filing=filing, signature=sign(VENDOR_KEY, record.encode()))
