"""The Merkle tree of the log and of key commitments: roots, proofs and their verification.

The writing half works over a `HashReader`, one method that gives the hash of a complete subtree, so a tree in memory
and a tree in a database share it; hashes of incomplete subtrees are never stored. The checking half needs no tree.

Invariants: every hash has exactly 32 bytes; a proof holds only if it is as long as index and size say, so under one
size it fits one index. A root alone does not name its size: take the size from the signed checkpoint beside the root.
Source: RFC 9162 section 2.1 (hashes 2.1.1, inclusion 2.1.3, consistency 2.1.4).
Trust: nothing here trusts whoever sent a proof; the root must come from a commitment or checkpoint the caller believes.
"""

from collections.abc import Sequence
from typing import Protocol

from app.canonical import sha256
from app.errors import Malformed, ProofError

HASH_BYTES = 32

# RFC 9162 2.1.1: the root of no leaves at all.
EMPTY_ROOT = sha256(b"")


class HashReader(Protocol):
    """Where the hashes of complete subtrees are kept."""

    def read(self, level: int, index: int) -> bytes:
        """Give the hash over the 2^level leaves that start at leaf index * 2^level."""
        ...


class MemoryTree:
    """A tree whose leaf hashes are all at hand."""

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        """Hash every complete subtree once."""
        self._levels: list[list[bytes]] = [list(leaf_hashes)]
        while len(below := self._levels[-1]) > 1:
            self._levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])

    def read(self, level: int, index: int) -> bytes:
        """Give the hash over the 2^level leaves that start at leaf index * 2^level."""
        return self._levels[level][index]

    @property
    def size(self) -> int:
        """Count the leaves."""
        return len(self._levels[0])

    def root(self) -> bytes:
        """Give the root over all leaves."""
        return root_at(self.size, self)

    def path(self, index: int) -> list[bytes]:
        """Prove that a leaf stands at `index`.

        Raises: Malformed unless 0 <= index < size.
        """
        return inclusion_path(index, self.size, self)


def leaf_hash(data: bytes) -> bytes:
    """Hash an entry as a leaf."""
    return sha256(b"\x00" + data)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them."""
    return sha256(b"\x01" + left + right)


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Give the root over leaf hashes."""
    return MemoryTree(leaf_hashes).root()


def root_at(size: int, reader: HashReader) -> bytes:
    """Give the root that the tree had when it held `size` leaves."""
    return _subtree_hash(0, size, reader) if size else EMPTY_ROOT


def inclusion_path(index: int, size: int, reader: HashReader) -> list[bytes]:
    """Prove that a leaf stands at `index` of the tree of `size` leaves, from the leaf's sibling up.

    Raises: Malformed unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise Malformed(f"there is no leaf {index} in a tree of {size}")
    downwards: list[bytes] = []
    start = 0
    while size > 1:
        left = _left_size(size)
        if index < start + left:
            downwards.append(_subtree_hash(start + left, size - left, reader))
            size = left
        else:
            downwards.append(_subtree_hash(start, left, reader))
            start, size = start + left, size - left
    return downwards[::-1]


def consistency_path(old_size: int, new_size: int, reader: HashReader) -> list[bytes]:
    """Prove that the tree of `old_size` leaves is a prefix of the tree of `new_size`.

    Raises: Malformed unless 0 <= old_size <= new_size.
    """
    if not 0 <= old_size <= new_size:
        raise Malformed(f"a tree of {new_size} has no earlier state of {old_size} leaves")
    if old_size == 0:
        return []
    downwards: list[bytes] = []
    start, size = 0, new_size
    while start + size > old_size:
        left = _left_size(size)
        if old_size <= start + left:
            downwards.append(_subtree_hash(start + left, size - left, reader))
            size = left
        else:
            downwards.append(_subtree_hash(start, left, reader))
            start, size = start + left, size - left
    # A subtree that starts at leaf 0 is the whole old tree, whose root the verifier has already.
    if start > 0:
        downwards.append(_subtree_hash(start, size, reader))
    return downwards[::-1]


def nodes_completed_by(index: int, leaf: bytes, reader: HashReader) -> list[tuple[int, int, bytes]]:
    """List (level, index, hash) of every complete subtree that appending leaf hash `leaf` as number `index` creates."""
    level, completed = 0, leaf
    nodes = [(level, index, completed)]
    while index % 2:
        completed = node_hash(reader.read(level, index - 1), completed)
        level, index = level + 1, index // 2
        nodes.append((level, index, completed))
    return nodes


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that leaf hash `leaf` stands at `index` of the tree of `size` leaves with this root.

    Raises: ProofError.
    """
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    _require_hashes(leaf, root, *path)
    # Names and steps of RFC 9162 section 2.1.3.2: fn is the position of r on its level, sn that of the last node there.
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            raise ProofError(f"the inclusion proof is longer than one for leaf {index} of {size}")
        if fn % 2 or fn == sn:
            r = node_hash(p, r)
            fn, sn = _rise_to_right_child(fn, sn)
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError(f"the inclusion proof is shorter than one for leaf {index} of {size}")
    if r != root:
        raise ProofError(f"the inclusion proof leads from leaf {index} of {size} to another root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the tree of `old_size` leaves is a prefix of the tree of `new_size`.

    Raises: ProofError.
    """
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {new_size} has no earlier state of {old_size} leaves")
    _require_hashes(old_root, new_root, *path)
    if old_size in (0, new_size):
        _verify_trivial_consistency(old_size, old_root, new_size, new_root, path)
        return
    if not path:
        raise ProofError(f"a consistency proof from {old_size} to {new_size} leaves cannot be empty")
    # Names and steps of RFC 9162 section 2.1.4.2. An old tree of 2^k leaves is itself the first hash and was left out.
    hashes = [old_root, *path] if old_size.bit_count() == 1 else list(path)
    fn, sn = old_size - 1, new_size - 1
    while fn % 2:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = hashes[0]
    for c in hashes[1:]:
        if sn == 0:
            raise ProofError(f"the consistency proof is longer than one from {old_size} to {new_size} leaves")
        if fn % 2 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            fn, sn = _rise_to_right_child(fn, sn)
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError(f"the consistency proof is shorter than one from {old_size} to {new_size} leaves")
    if (fr, sr) != (old_root, new_root):
        raise ProofError(f"the roots over {old_size} and {new_size} leaves are not of one growing log")


def _verify_trivial_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    if path:
        raise ProofError(f"a consistency proof from {old_size} to {new_size} leaves must be empty")
    for size, root in ((old_size, old_root), (new_size, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise ProofError("the root over no leaves is SHA-256 of nothing")
    if old_size == new_size and old_root != new_root:
        raise ProofError(f"two different roots over the same {old_size} leaves")


def _rise_to_right_child(fn: int, sn: int) -> tuple[int, int]:
    # A last node without sibling is its own parent: climb until it is a right child (or the root of the left edge).
    while fn % 2 == 0 and fn != 0:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn


def _require_hashes(*hashes: bytes) -> None:
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise ProofError(f"a hash has {HASH_BYTES} bytes, not {len(value)}")


def _left_size(size: int) -> int:
    # RFC 9162 2.1.1: the largest power of two smaller than size, which is at least 2.
    return 1 << ((size - 1).bit_length() - 1)


def _subtree_hash(start: int, size: int, reader: HashReader) -> bytes:
    # `start` is a multiple of the smallest power of two that is not below `size`, so each bit of `size` is one complete
    # subtree, the largest on the left.
    complete: list[bytes] = []
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            complete.append(reader.read(level, start >> level))
            start += 1 << level
    root = complete.pop()
    while complete:
        root = node_hash(complete.pop(), root)
    return root
