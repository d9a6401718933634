import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from app.canonical import lp, sha256, tag, u32
from app.errors import Malformed, OpeningInvalid
from app.keys.commitment import (
    InputOpening,
    LabelOpening,
    MarkingKey,
    check_marking_key,
    verify_input_opening,
    verify_label_opening,
)
from app.keys.statement import Statement
from app.keys.trigger_set import Family, ImageInput, TensorInput

INPUTS = tuple(ImageInput(1, 2, 1, bytes([index, 255 - index])).encode() for index in range(5))
KEY = MarkingKey(bytes(range(32)), INPUTS)
KEY_B = MarkingKey(bytes(range(32)), INPUTS, (0, 1, 2, 2, 0))


def statement_of(key):
    return Statement(
        log="log.example",
        vendor_key=bytes(32),
        root=key.root(),
        count=key.count,
        kind=key.kind,
        shape=key.shape,
        classes=("a", "b", "c"),
        families=(Family("all", 0, key.count),),
        label_source="beacon" if key.labels is None else "vendor",
        beacon="local",
        covers=None,
        unmarked_model=None,
    )


STATEMENT, STATEMENT_B = statement_of(KEY), statement_of(KEY_B)


def test_keys_and_commitments_are_those_of_the_protocol():
    expand = HKDFExpand(algorithm=SHA256(), length=32, info=lp(tag("input-key"), u32(3)))
    assert KEY.input_key(3) == expand.derive(KEY.master)
    expand = HKDFExpand(algorithm=SHA256(), length=32, info=lp(tag("label-key"), u32(3)))
    assert KEY.label_key(3) == expand.derive(KEY.master)
    committed = hmac.digest(KEY.input_key(3), INPUTS[3], "sha256")
    label = sha256(lp(tag("label-key-commitment"), KEY.label_key(3)))
    assert KEY.leaf(3) == lp(tag("trigger"), u32(3), committed, label)
    assert KEY_B.label_commitment(3) == sha256(lp(tag("label-key-commitment"), KEY.label_key(3), u32(2)))


@pytest.mark.parametrize(("key", "statement"), [(KEY, STATEMENT), (KEY_B, STATEMENT_B)])
def test_every_trigger_opens_input_first_and_label_later(key, statement):
    for index in range(key.count):
        opening = key.open_input(index)
        verify_input_opening(statement, opening)
        verify_label_opening(statement, opening.label_commitment, key.open_label(index))
        assert InputOpening.parse(opening.encode()) == opening
        assert LabelOpening.parse(key.open_label(index).encode()) == key.open_label(index)


OPENING = KEY.open_input(2)


@pytest.mark.parametrize(
    ("opening", "message"),
    [
        (replace(OPENING, index=3), "does not open the registered root"),
        (replace(OPENING, index=5), "there is no leaf 5"),
        (replace(OPENING, input_key=bytes(32)), "does not open"),
        (replace(OPENING, input=INPUTS[3]), "does not open"),
        (replace(OPENING, input=b"no input"), "not a canonical input"),
        (replace(OPENING, input=ImageInput(2, 1, 1, bytes(2)).encode()), r"is image \(2, 1, 1\)"),
        (replace(OPENING, input=TensorInput.of((1, 2, 1), [0, 0]).encode()), "is tensor"),
        (replace(OPENING, label_commitment=bytes(32)), "does not open"),
        (replace(OPENING, path=OPENING.path[:-1]), "shorter"),
        (replace(OPENING, path=(*OPENING.path, bytes(32))), "longer"),
        (replace(OPENING, path=OPENING.path[::-1]), "does not open"),
    ],
)
def test_an_opening_that_is_not_the_registered_one_is_invalid(opening, message):
    with pytest.raises(OpeningInvalid, match=message):
        verify_input_opening(STATEMENT, opening)


@pytest.mark.parametrize(
    ("key", "statement", "opening", "message"),
    [
        (KEY, STATEMENT, KEY.open_label(1), "does not open its commitment"),
        (KEY, STATEMENT, replace(KEY.open_label(2), label=1), "only there"),
        (KEY_B, STATEMENT_B, replace(KEY_B.open_label(2), label=None), "only there"),
        (KEY_B, STATEMENT_B, replace(KEY_B.open_label(2), label=1), "does not open its commitment"),
        (KEY_B, STATEMENT_B, replace(KEY_B.open_label(2), label=3), "names no class"),
    ],
)
def test_a_label_that_is_not_the_committed_one_is_invalid(key, statement, opening, message):
    with pytest.raises(OpeningInvalid, match=message):
        verify_label_opening(statement, key.open_input(2).label_commitment, opening)


def test_an_opening_of_one_trigger_says_nothing_about_the_others():
    """The input opening must not hold the label key, nor any key of another trigger."""
    shown = OPENING.encode()
    secrets = [KEY.label_key(index) for index in range(5)] + [KEY.input_key(index) for index in (0, 1, 3, 4)]
    assert not any(secret.hex().encode() in shown for secret in [KEY.master, *secrets])


@pytest.mark.parametrize(
    "make",
    [
        lambda: MarkingKey(bytes(32), ()),
        lambda: MarkingKey(bytes(32), INPUTS[:1] * 65_537),
        lambda: MarkingKey(bytes(31), INPUTS),
        lambda: MarkingKey(bytes(32), INPUTS, (0,)),
        lambda: MarkingKey(bytes(32), (b"no input",)),
        lambda: MarkingKey(bytes(32), (*INPUTS, ImageInput(2, 1, 1, bytes(2)).encode())),
    ],
)
def test_a_marking_key_with_other_contents_is_refused(make):
    with pytest.raises(Malformed):
        make()


def test_a_marking_key_prints_no_secret():
    assert KEY.master.hex() not in repr(KEY)
    assert repr(KEY) == "MarkingKey()"


def test_a_marking_key_is_checked_against_its_statement():
    check_marking_key(KEY, STATEMENT)
    check_marking_key(KEY_B, STATEMENT_B)
    for key, statement, message in (
        (KEY, STATEMENT_B, "label source"),
        (KEY_B, STATEMENT, "label source"),
        (MarkingKey(bytes(32), INPUTS), STATEMENT, "registered root"),
        (KEY, replace(STATEMENT, count=4), "registered root"),
    ):
        with pytest.raises(OpeningInvalid, match=message):
            check_marking_key(key, statement)
