"""All adapters behind the questions that an auditor asks of a transcript, and of a derivation."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import Malformed
from app.keys.cover_set import CoverTable
from app.keys.statement import Statement
from app.keys.trigger_set import ImageInput, parse_input
from app.protocol.derivation import MetadataAnswer, Rule
from app.protocol.interface import Interface
from app.suspects.adapters import load_adapter, read_answer
from app.suspects.adapters.codec import is_near
from app.suspects.candidates import metadata_paths, rule_of


class AdapterCodec:
    """Reads requests and responses by the adapter that an interface names (a `protocol.faults.Codec`)."""

    def decode_request(
        self, interface: Interface, body: bytes, statement: Statement, expected: bytes | None = None
    ) -> bytes:
        """Read the canonical input out of a request; `expected` itself where a JPEG holds it as nearly as JPEG can.

        Raises: Malformed unless the body is a request about exactly one input.
        """
        adapter = load_adapter(interface.adapter)
        sent = adapter.decode_request(
            interface.options, interface.preprocessing, body, kind=statement.kind, shape=statement.shape
        )
        slack = adapter.tolerance(interface.options)
        return expected if expected is not None and slack and _is_nearly(sent, expected, slack) else sent

    def read_answer(
        self, interface: Interface, status: int, body: bytes, statement: Statement, *, ranking: bool = False
    ) -> tuple[tuple[str, ...], str]:
        """Read the endpoint labels out of a response, or the word for why there are none."""
        return read_answer(interface, len(statement.classes), status, body, ranking=ranking)

    def metadata_paths(self, at: Mapping[str, Any], adapter: str | None) -> Sequence[tuple[str, str]]:
        """Name adapter and path of every request for metadata."""
        return metadata_paths(at, adapter)

    def rule_of(
        self,
        at: Mapping[str, Any],
        adapter: str | None,
        metadata: Sequence[MetadataAnswer],
        statement: Statement,
        covers: CoverTable,
    ) -> Rule:
        """Give the rule of derivation over the interfaces that it compares."""
        return rule_of(at, adapter, metadata, statement, covers)


def _is_nearly(sent: bytes, expected: bytes, slack: int) -> bool:
    one, other = parse_input(sent), parse_input(expected)
    if not (isinstance(one, ImageInput) and isinstance(other, ImageInput)) or one.shape != other.shape:
        raise Malformed("only images are sent as pictures")
    return is_near(one.pixels, other.pixels, slack)
