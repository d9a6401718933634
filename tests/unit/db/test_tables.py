from datetime import UTC, datetime, timedelta

from app.db.tables import Base, new_id

NOW = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC)


def test_ids_are_version_7_and_variant_2_whatever_the_randomness() -> None:
    for randomness in (bytes(10), b"\xff" * 10, bytes(range(10))):
        made = new_id(NOW, randomness)
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"


def test_ids_carry_the_time_in_milliseconds() -> None:
    assert new_id(NOW, bytes(10)).int >> 80 == int(NOW.timestamp() * 1000)


def test_later_ids_sort_after_earlier_ones() -> None:
    assert new_id(NOW, b"\xff" * 10) < new_id(NOW + timedelta(milliseconds=1), bytes(10))


def test_ids_of_one_moment_differ_by_their_randomness() -> None:
    assert new_id(NOW, bytes(9) + b"\x01") != new_id(NOW, bytes(10))


def test_every_foreign_key_of_a_big_table_pages_by_vendor_and_id() -> None:
    paged = {"api_keys", "registrations", "model_commitments", "embeddings", "suspects", "disputes"}
    for name in paged:
        indexes = [[column.name for column in index.columns] for index in Base.metadata.tables[name].indexes]
        assert ["vendor_id", "id"] in indexes, name
