"""A marking key, opened inside a child process, and the labels that go with it.

Trust: whoever calls this sees the marking key; only children do.
"""

from app.embedding.child_order import PlainKey, SealedKey
from app.keys.commitment import MarkingKey, check_marking_key
from app.keys.key_file import parse_key_file
from app.keys.labels import draw_labels
from app.keys.sealing import QueueKey
from app.keys.statement import Statement


def open_marking_key(statement: Statement, secrets: PlainKey | SealedKey) -> MarkingKey:
    """Unseal and read the marking key, and check that it is the registered one.

    Raises: OpeningInvalid if it cannot be unsealed or is another; Malformed.
    """
    if isinstance(secrets, SealedKey):
        key_file = QueueKey(secrets.queue_seed).unseal(secrets.sealed, statement.root)
    else:
        key_file = secrets.key_file
    key = parse_key_file(key_file)
    check_marking_key(key, statement)
    return key


def labels_of_key(statement: Statement, salt: bytes, key: MarkingKey) -> tuple[int, ...]:
    """Give the label of each trigger: the vendor's own (class B) or drawn (class A)."""
    if key.labels is not None:  # check_marking_key allows this in class B only
        return key.labels
    return tuple(draw_labels(key, salt, len(statement.classes)))
