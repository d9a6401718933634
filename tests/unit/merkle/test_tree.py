"""The tree against a second implementation, written from RFC 9162's definitions, and against published roots."""

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Malformed, ProofError
from app.merkle.tree import (
    EMPTY_ROOT,
    MemoryTree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    nodes_completed_by,
    root_at,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"%d" % index) for index in range(70)]
TREE = MemoryTree(LEAVES)

# The eight entries of the Certificate Transparency reference code, and the roots over the first 1, 2, ... 8 of them.
PUBLISHED_ENTRIES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
PUBLISHED_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@cache
def mth(start, end):
    """RFC 9162 2.1.1 over LEAVES[start:end], as it is written there."""
    n = end - start
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return LEAVES[start]
    k = max(2**e for e in range(10) if 2**e < n)
    return sha256(b"\x01" + mth(start, start + k) + mth(start + k, end)).digest()


def rfc_path(m, start, end):
    """RFC 9162 2.1.3.1."""
    n = end - start
    if n == 1:
        return []
    k = max(2**e for e in range(10) if 2**e < n)
    if m < k:
        return [*rfc_path(m, start, start + k), mth(start + k, end)]
    return [*rfc_path(m - k, start + k, end), mth(start, start + k)]


def rfc_subproof(m, start, end, *, whole):
    """RFC 9162 2.1.4.1."""
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = max(2**e for e in range(10) if 2**e < n)
    if m <= k:
        return [*rfc_subproof(m, start, start + k, whole=whole), mth(start + k, end)]
    return [*rfc_subproof(m - k, start + k, end, whole=False), mth(start, start + k)]


def flipped(value, bit=0):
    return bytes([value[0] ^ (1 << bit), *value[1:]])


def test_roots_are_the_published_ones():
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in PUBLISHED_ENTRIES]
    assert [root_of(leaves[: size + 1]).hex() for size in range(8)] == list(PUBLISHED_ROOTS)


def test_root_over_nothing_is_sha256_of_nothing():
    assert root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root_at(0, TREE) == EMPTY_ROOT


def test_roots_of_all_sizes_are_as_the_rfc_defines_them():
    for size in range(len(LEAVES) + 1):
        assert root_at(size, TREE) == root_of(LEAVES[:size]) == mth(0, size)


def test_inclusion_paths_of_all_leaves_and_sizes_are_the_rfcs_and_verify():
    for size in range(1, len(LEAVES) + 1):
        for index in range(size):
            path = inclusion_path(index, size, TREE)
            assert path == rfc_path(index, 0, size)
            verify_inclusion(LEAVES[index], index, size, path, mth(0, size))


def test_path_of_a_memory_tree_is_the_one_of_its_whole_size():
    tree = MemoryTree(LEAVES[:11])
    assert tree.path(6) == inclusion_path(6, 11, TREE)
    assert tree.size == 11


def test_inclusion_proof_fits_no_other_index_of_its_size():
    for size in range(2, 36):
        for index in range(size):
            path = inclusion_path(index, size, TREE)
            for other in set(range(size)) - {index}:
                with pytest.raises(ProofError):
                    verify_inclusion(LEAVES[index], other, size, path, mth(0, size))


def test_inclusion_proof_fits_no_other_size():
    for size in range(1, 36):
        for index in range(size):
            path = inclusion_path(index, size, TREE)
            for other in set(range(36)) - {size}:
                with pytest.raises(ProofError):
                    verify_inclusion(LEAVES[index], index, other, path, mth(0, other))


def test_inclusion_path_of_another_length_is_refused_even_if_its_hashes_lead_to_the_root():
    path = inclusion_path(6, 11, TREE)
    # Hashing on with one more sibling gives a root of its own; the length alone must refuse it.
    longer = [*path, LEAVES[0]]
    with pytest.raises(ProofError, match="longer"):
        verify_inclusion(LEAVES[6], 6, 11, longer, node_hash(LEAVES[0], mth(0, 11)))
    with pytest.raises(ProofError, match="shorter"):
        verify_inclusion(LEAVES[6], 6, 11, path[:-1], mth(0, 8))


def test_inclusion_with_any_bit_flipped_is_refused():
    path, root = inclusion_path(6, 11, TREE), mth(0, 11)
    for bit in range(8):
        with pytest.raises(ProofError, match="another root"):
            verify_inclusion(flipped(LEAVES[6], bit), 6, 11, path, root)
        with pytest.raises(ProofError, match="another root"):
            verify_inclusion(LEAVES[6], 6, 11, path, flipped(root, bit))
        for place in range(len(path)):
            damaged = [*path[:place], flipped(path[place], bit), *path[place + 1 :]]
            with pytest.raises(ProofError, match="another root"):
                verify_inclusion(LEAVES[6], 6, 11, damaged, root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5), (0, -1)])
def test_index_outside_the_tree_is_refused(index, size):
    with pytest.raises(ProofError, match="no leaf"):
        verify_inclusion(LEAVES[0], index, size, [], mth(0, 5))
    with pytest.raises(Malformed, match="no leaf"):
        inclusion_path(index, size, TREE)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hashes_of_another_length_are_refused(length):
    wrong, path = bytes(length), inclusion_path(1, 3, TREE)
    for leaf, hashes, root in (
        (wrong, path, mth(0, 3)),
        (LEAVES[1], [wrong, path[1]], mth(0, 3)),
        (LEAVES[1], path, wrong),
    ):
        with pytest.raises(ProofError, match="32 bytes"):
            verify_inclusion(leaf, 1, 3, hashes, root)
    for old_root, new_root, hashes in ((wrong, mth(0, 3), [LEAVES[2]]), (mth(0, 2), wrong, [LEAVES[2]])):
        with pytest.raises(ProofError, match="32 bytes"):
            verify_consistency(2, old_root, 3, new_root, hashes)
    with pytest.raises(ProofError, match="32 bytes"):
        verify_consistency(2, mth(0, 2), 3, mth(0, 3), [wrong])


def test_consistency_paths_between_all_sizes_are_the_rfcs_and_verify():
    for new in range(len(LEAVES) + 1):
        for old in range(new + 1):
            path = consistency_path(old, new, TREE)
            assert path == (rfc_subproof(old, 0, new, whole=True) if old else [])
            verify_consistency(old, mth(0, old), new, mth(0, new), path)


def test_consistency_proof_fits_no_other_pair_of_sizes():
    proofs = {
        (old, new): consistency_path(old, new, TREE) for new in range(1, 13) for old in range(1, new)
    }  # a pair with equal or empty sizes has no proof to misuse
    for (old, new), path in proofs.items():
        for other_old, other_new in proofs.keys() - {(old, new)}:
            with pytest.raises(ProofError):
                verify_consistency(other_old, mth(0, other_old), other_new, mth(0, other_new), path)


def test_log_that_rewrote_an_entry_is_inconsistent_at_every_later_size():
    rewritten = MemoryTree([*LEAVES[:3], leaf_hash(b"rewritten"), *LEAVES[4:]])
    for new in range(6, 20):
        path = consistency_path(5, new, rewritten)
        with pytest.raises(ProofError):
            verify_consistency(5, mth(0, 5), new, root_at(new, rewritten), path)


def test_consistency_with_any_bit_flipped_is_refused():
    for old, new in ((6, 11), (4, 7), (8, 11)):
        path = consistency_path(old, new, TREE)
        with pytest.raises(ProofError):
            verify_consistency(old, flipped(mth(0, old)), new, mth(0, new), path)
        with pytest.raises(ProofError):
            verify_consistency(old, mth(0, old), new, flipped(mth(0, new)), path)
        for place in range(len(path)):
            damaged = [*path[:place], flipped(path[place]), *path[place + 1 :]]
            with pytest.raises(ProofError):
                verify_consistency(old, mth(0, old), new, mth(0, new), damaged)


def test_consistency_path_of_another_length_is_refused():
    path = consistency_path(6, 11, TREE)
    for wrong, reason in (([], "empty"), (path[:-1], "shorter"), ([*path, path[0]], "longer")):
        with pytest.raises(ProofError, match=reason):
            verify_consistency(6, mth(0, 6), 11, mth(0, 11), wrong)


@pytest.mark.parametrize(("old", "new"), [(-1, 5), (6, 5), (1, 0)])
def test_log_cannot_shrink(old, new):
    with pytest.raises(ProofError, match="no earlier state"):
        verify_consistency(old, mth(0, 5), new, mth(0, 5), [])
    with pytest.raises(Malformed, match="no earlier state"):
        consistency_path(old, new, TREE)


def test_equal_sizes_need_equal_roots_and_no_path():
    verify_consistency(5, mth(0, 5), 5, mth(0, 5), [])
    with pytest.raises(ProofError, match="two different roots"):
        verify_consistency(5, mth(0, 5), 5, mth(0, 4), [])
    with pytest.raises(ProofError, match="must be empty"):
        verify_consistency(5, mth(0, 5), 5, mth(0, 5), [LEAVES[0]])


def test_empty_log_has_one_root():
    verify_consistency(0, EMPTY_ROOT, 5, mth(0, 5), [])
    for old, new in ((LEAVES[0], mth(0, 5)), (LEAVES[0], LEAVES[0])):
        with pytest.raises(ProofError, match="no leaves"):
            verify_consistency(0, old, 5 if new != old else 0, new, [])


class StoredNodes:
    """A reader that holds only what `nodes_completed_by` told it to store, like the table of the log."""

    def __init__(self):
        self.nodes = {}

    def read(self, level, index):
        return self.nodes[level, index]

    def append(self, index, leaf):
        for level, position, value in nodes_completed_by(index, leaf, self):
            assert (level, position) not in self.nodes
            self.nodes[level, position] = value


def test_nodes_stored_append_by_append_are_all_that_proofs_need():
    stored = StoredNodes()
    for size, leaf in enumerate(LEAVES, start=1):
        stored.append(size - 1, leaf)
        assert root_at(size, stored) == mth(0, size)
        for index in range(0, size, 7):
            assert inclusion_path(index, size, stored) == inclusion_path(index, size, TREE)
            assert consistency_path(index, size, stored) == consistency_path(index, size, TREE)


def test_append_completes_one_node_per_trailing_one_bit_and_the_leaf():
    assert nodes_completed_by(4, LEAVES[4], TREE) == [(0, 4, LEAVES[4])]
    assert nodes_completed_by(7, LEAVES[7], TREE) == [
        (0, 7, LEAVES[7]),
        (1, 3, mth(6, 8)),
        (2, 1, mth(4, 8)),
        (3, 0, mth(0, 8)),
    ]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=300), st.data())
def test_any_leaf_of_any_tree_is_proved_and_any_prefix_is_consistent(entries, data):
    tree = MemoryTree([leaf_hash(entry) for entry in entries])
    size = data.draw(st.integers(1, len(entries)))
    index = data.draw(st.integers(0, size - 1))
    verify_inclusion(leaf_hash(entries[index]), index, size, inclusion_path(index, size, tree), root_at(size, tree))
    path = consistency_path(size, len(entries), tree)
    verify_consistency(size, root_at(size, tree), len(entries), tree.root(), path)


@settings(deadline=None, max_examples=300)
@given(st.integers(-2, 2**60), st.integers(-2, 2**60), st.lists(st.binary(min_size=32, max_size=32), max_size=62))
def test_invented_proofs_of_any_size_are_refused(first, second, path):
    with pytest.raises(ProofError):
        verify_inclusion(LEAVES[0], first, second, path, LEAVES[1])
    with pytest.raises(ProofError):
        verify_consistency(first, LEAVES[1], second, LEAVES[2], path)
