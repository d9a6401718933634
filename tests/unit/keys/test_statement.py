import pytest

from app.canonical import encode_json
from app.errors import Malformed, StatementNotCanonical
from app.keys.statement import CoverCommitment, Statement, fold_name, parse_statement
from app.keys.trigger_set import Family

STATEMENT = Statement(
    log="log.example/trapstreet",
    vendor_key=b"\x01" * 32,
    root=b"\x02" * 32,
    count=5,
    kind="image",
    shape=(8, 8, 3),
    classes=("cat", "dog"),
    families=(Family("a", 0, 3), Family("b", 3, 5)),
    label_source="beacon",
    beacon="local",
    covers=CoverCommitment(b"\x03" * 32, 9),
    unmarked_model=None,
)


def changed(**values):
    return STATEMENT.to_json() | values


def test_a_statement_reads_back_and_has_an_assurance_class():
    assert parse_statement(STATEMENT.encode()) == STATEMENT
    assert STATEMENT.assurance_class == "A"
    assert Statement.from_json(changed(label_source="vendor")).assurance_class == "B"


def test_bytes_that_are_not_canonical_are_named_so_and_values_are_pointed_at():
    for data in (b" " + STATEMENT.encode(), STATEMENT.encode() + b"\n", b"{"):
        with pytest.raises(StatementNotCanonical):
            parse_statement(data)
    with pytest.raises(Malformed) as caught:
        parse_statement(encode_json(changed(count=0)))
    assert (caught.value.code, caught.value.pointer) == ("malformed", "/count")


@pytest.mark.parametrize(
    ("names", "pointer"),
    [
        (["cat", "dog", "CAT"], "/classes/2"),
        (["cat", " cat "], "/classes/1"),
        (["\u00e9", "e\u0301"], "/classes/1"),
        (["stra\u00dfe", "STRASSE"], "/classes/1"),
        (["cat"], "/classes"),
        (["cat", ""], "/classes/1"),
        (["cat", "d" * 201], "/classes/1"),
    ],
)
def test_class_names_that_look_the_same_are_refused(names, pointer):
    with pytest.raises(Malformed) as caught:
        Statement.from_json(changed(classes=names))
    assert caught.value.pointer == pointer


def test_folding_a_name_twice_changes_nothing_more():
    for name in (" Cat\t", "E\u0301", "\u0345", "\u1e9e", "\u01c5", "I\u0307"):
        assert fold_name(fold_name(name)) == fold_name(name)


def test_a_family_is_found_by_name_or_refused_with_the_names_there_are():
    assert STATEMENT.family("b") == Family("b", 3, 5)
    with pytest.raises(Malformed, match="it has a, b"):
        STATEMENT.family("c")
