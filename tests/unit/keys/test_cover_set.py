import json

import pytest

from app.canonical import encode_json, sha256
from app.errors import Malformed
from app.keys.cover_set import (
    CoverSet,
    CoverTable,
    LabelledCoverSet,
    cover_leaf,
    encode_cover_set,
    parse_cover_set,
)
from app.keys.trigger_set import ImageInput
from app.merkle.tree import MemoryTree, leaf_hash

INPUTS = tuple(ImageInput(1, 2, 1, bytes([index, 9])).encode() for index in range(3))
LABELS = (1, 0, 1)


def test_a_labelled_cover_set_reads_back_with_its_labels():
    data = encode_cover_set(INPUTS, LABELS)
    covers = parse_cover_set(data)
    assert isinstance(covers, LabelledCoverSet)
    assert (covers.inputs, covers.labels) == (INPUTS, LABELS)
    assert json.loads(data)["type"] == "trapstreet/v1/labelled-cover-set"


def test_a_set_without_labels_has_no_table():
    covers = parse_cover_set(encode_cover_set(INPUTS))
    assert isinstance(covers, CoverSet)
    assert covers.table is None


def test_the_root_is_over_index_digest_and_label():
    leaves = [cover_leaf(index, sha256(data), LABELS[index]) for index, data in enumerate(INPUTS)]
    covers = parse_cover_set(encode_cover_set(INPUTS, LABELS))
    assert covers.table.commitment.root == MemoryTree([leaf_hash(leaf) for leaf in leaves]).root()
    assert covers.table.commitment.count == 3


@pytest.mark.parametrize("labels", [(1, 0), (1, 0, 1, 1)])
def test_labels_are_one_for_each_input(labels):
    with pytest.raises(Malformed, match="do not fit 3 inputs"):
        encode_cover_set(INPUTS, labels)
    value = json.loads(encode_cover_set(INPUTS, LABELS)) | {"labels": list(labels)}
    with pytest.raises(Malformed) as refused:
        parse_cover_set(encode_json(value))
    assert refused.value.pointer == "/labels"


def test_a_cover_set_is_no_list():
    with pytest.raises(Malformed):
        parse_cover_set(b"[]")


def test_shown_inputs_are_found_by_their_index():
    table = CoverTable.from_json(
        CoverTable(tuple(map(sha256, INPUTS)), LABELS).to_json() | {"shown": [{"index": 2, "input": INPUTS[2].hex()}]}
    )
    assert table.inputs == {2: INPUTS[2]}
