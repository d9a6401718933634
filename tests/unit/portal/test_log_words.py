"""Entries in words: every kind has its own, and nothing that a record holds can play tricks with the page."""

from app.portal.log_words import KINDS, SHOWN_CHARACTERS, SHOWN_ITEMS, show_record, visible
from app.protocol.records import ENTRIES, HIDES


def test_every_kind_of_entry_has_its_words_and_no_other():
    assert KINDS.keys() == ENTRIES.keys()
    assert all(KINDS[entry.NAME].hides for entry in HIDES.values())


def test_fields_are_shown_in_their_order_with_what_lies_below_and_the_entries_they_point_to():
    shown = show_record({"filing": 3, "asked": 3, "record": {"a": [1, "b"], "c": [{"d": None}]}, "none": None, "e": []})
    assert [one.name for one in shown] == ["filing", "asked", "record", "none", "e"]
    assert (shown[0].entry, shown[1].entry, shown[1].text) == (3, None, "3")
    assert shown[2].below[0].text == "1, b"
    assert shown[2].below[1].below[0].below[0].text == "none"
    assert (shown[3].text, shown[4].text) == ("none", "none")


def test_counts_stand_in_one_line():
    (covers,) = show_record({"covers": [{"answered": 64, "repeated": 60}, {"answered": 9, "is_first": True}]})
    assert (covers.text, covers.below) == ("answered 64, repeated 60 · answered 9, is_first yes", ())
    (named,) = show_record({"families": [{"name": "a", "start": 0}]})
    assert named.below[0].below[0].text == "a"


def test_long_values_are_cut_and_say_so():
    (text,) = show_record({"text": "x" * (SHOWN_CHARACTERS + 1)})
    assert text.text.endswith(f"… ({SHOWN_CHARACTERS + 1} characters)")
    (items,) = show_record({"items": list(range(SHOWN_ITEMS + 5))})
    assert items.text.endswith(", … and 5 more")
    (below,) = show_record({"below": [{}] * (SHOWN_ITEMS + 5)})
    assert (len(below.below), below.below[-1].text) == (SHOWN_ITEMS + 1, "and 5 more")


def test_what_nobody_sees_is_written_out():
    assert visible("a\u202eb\u200bc\nd\ud800é猫 ") == r"a\u202eb\u200bc\u000ad\ud800é猫 "
