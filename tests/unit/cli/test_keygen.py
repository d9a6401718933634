import pytest

from app.cli.keygen import check_enough, parse_family, parse_millis, parse_shape, warn_of_small_families
from app.embedding.trigger_order import FamilyOrder
from app.errors import Malformed, PolicyRefused
from app.protocol.evidence import Outcome, Step, threshold, walk


def confirmed(count, classes, families):
    """Walk the evidence of a first filing in which every trigger matches."""
    return walk([Step(Outcome.MATCH, 1, classes)] * count, threshold(64, 0, families, 1)).end == "CONFIRMED"


@pytest.mark.parametrize(("classes", "families"), [(2, 1), (3, 4), (10, 1), (10, 4), (1000, 2)])
def test_families_are_refused_exactly_where_the_evidence_can_never_confirm(classes, families):
    least = next(count for count in range(1, 200) if confirmed(count, classes, families))
    rest = [FamilyOrder(f"family {number}", 200) for number in range(families - 1)]
    check_enough([FamilyOrder("noise", least), *rest], classes)
    with pytest.raises(PolicyRefused, match=rf"^noise \({least - 1} triggers\): .* fewer than {least} triggers"):
        check_enough([FamilyOrder("noise", least - 1), *rest], classes)


def test_a_small_family_is_said_with_the_models_for_which_it_would_do(capsys):
    families = [FamilyOrder("noise", 128), FamilyOrder("abstract", 24), FamilyOrder("own", 3)]
    warn_of_small_families(families)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    least = next(classes for classes in range(2, 100) if confirmed(24, classes, 3))
    assert told[0].startswith("family abstract (24 triggers)")
    assert f"for a model of {least} classes or more" in told[0]
    assert "for no model" in told[1]


def test_a_family_that_is_large_enough_for_the_models_classes_is_not_worth_a_word(capsys):
    warn_of_small_families([FamilyOrder("abstract", 24)], 10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["noise", "noise:", "noise:0", "noise:-4", "noise:²"])
def test_what_is_no_family_is_refused(text):
    with pytest.raises(Malformed, match="NAME:COUNT"):
        parse_family(text)


def test_numbers_are_read_as_they_are_written():
    assert parse_family("noise:128") == FamilyOrder("noise", 128)
    assert parse_shape("8x9x3") == (8, 9, 3)
    assert parse_millis("") == ()
    assert parse_millis("247,243,261") == (247, 243, 261)
    with pytest.raises(Malformed, match="whole numbers"):
        parse_millis("0.2")


def test_with_two_classes_a_family_that_could_be_confirmed_is_told_how_many_leave_room(capsys):
    warn_of_small_families([FamilyOrder("noise", 128), FamilyOrder("abstract", 512)], 2)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("family noise (128 triggers)")
    assert "512 leave room" in told[0]
