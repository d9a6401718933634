"""All adapters behind the two questions that an auditor asks of a transcript."""

from app.keys.statement import Statement
from app.protocol.interface import Interface
from app.suspects.adapters import load_adapter, read_answer


class AdapterCodec:
    """Reads requests and responses by the adapter that an interface names (a `protocol.faults.Codec`)."""

    def decode_request(self, interface: Interface, body: bytes, statement: Statement) -> bytes:
        """Read the canonical input out of a request.

        Raises: Malformed unless the body is a request about exactly one input.
        """
        return load_adapter(interface.adapter).decode_request(
            interface.options, interface.preprocessing, body, kind=statement.kind, shape=statement.shape
        )

    def read_answer(
        self, interface: Interface, status: int, body: bytes, statement: Statement
    ) -> tuple[tuple[str, ...], str]:
        """Read the endpoint labels out of a response, or the word for why there are none."""
        return read_answer(interface, len(statement.classes), status, body)
