from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.fields import Paging, under
from app.canonical import MAX_INTEGER
from app.errors import Malformed


@given(st.uuids(), st.integers(1, 200))
def test_a_page_ends_with_the_cursor_of_its_last_item(last: UUID, limit: int) -> None:
    page = Paging(limit, None).page([last] * (limit + 1), lambda row: row, str)
    assert len(page.items) == limit
    assert Paging(limit, page.next_cursor).after_id() == last


@given(st.integers(0, MAX_INTEGER))
def test_a_cursor_may_be_a_number(last: int) -> None:
    page = Paging(1, None).page([last, last], lambda row: row, str)
    assert Paging(1, page.next_cursor).after_number() == last


def test_the_last_page_has_no_cursor() -> None:
    assert Paging(2, None).page([1, 2], lambda row: row, str).next_cursor is None
    assert Paging(2, None).page([], lambda row: row, str).items == []
    assert (Paging(2, None).after_id(), Paging(2, None).after_number()) == (None, None)


@given(st.text(max_size=64))
def test_any_text_is_a_cursor_or_malformed(text: str) -> None:
    for read in (Paging(1, text).after_id, Paging(1, text).after_number):
        try:
            assert read() is not None
        except Malformed:
            continue


def test_a_pointer_inside_a_text_leads_through_its_place() -> None:
    with pytest.raises(Malformed) as caught, under("/statement"):
        raise Malformed("no", pointer="/root")
    assert caught.value.pointer == "/statement/root"
    with pytest.raises(Malformed) as caught, under("/statement"):
        raise Malformed("no")
    assert caught.value.pointer == "/statement"
