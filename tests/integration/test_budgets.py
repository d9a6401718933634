"""How often a host may be asked on one day: counted in the database, whoever asks."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from app.db.engine import transaction
from app.disputes.budgets import DISPUTES, give_back, may_spend, scope_of_tests
from tests.conftest import Database

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOST = "suspect.example"


def spend(database: Database, queries: int, *, host: str = HOST, scope: str = DISPUTES, now: datetime = NOON) -> bool:
    with transaction(database.service) as session:
        return may_spend(session, host, scope, queries, 100, now)


def sent(database: Database) -> list[int]:
    with transaction(database.service) as session:
        return list(session.execute(text("SELECT sent FROM endpoint_budgets ORDER BY host, scope, day")).scalars())


def test_so_many_queries_pass_and_not_one_more(database: Database) -> None:
    assert [spend(database, 60), spend(database, 41), spend(database, 40), spend(database, 1)] == [
        True,
        False,
        True,
        False,
    ]
    assert sent(database) == [100]


def test_more_than_a_whole_day_has_never_pass(database: Database) -> None:
    assert not spend(database, 101)
    assert sent(database) == []


def test_what_was_not_sent_is_given_back(database: Database) -> None:
    assert spend(database, 100)
    with transaction(database.service) as session:
        give_back(session, HOST, DISPUTES, 30, NOON)
    assert spend(database, 30)
    assert not spend(database, 1)


def test_the_next_day_begins_anew_and_forgets_the_last(database: Database) -> None:
    assert spend(database, 100)
    assert spend(database, 100, now=NOON + timedelta(hours=12))
    assert sent(database) == [100]
    with transaction(database.service) as session:
        give_back(session, HOST, DISPUTES, 30, NOON)  # of yesterday: there is nothing left of it
    assert sent(database) == [100]


def test_hosts_and_scopes_are_counted_apart(database: Database) -> None:
    assert spend(database, 100)
    assert spend(database, 100, host="another.example")
    assert spend(database, 100, scope=scope_of_tests(UUID(int=1)))
    assert spend(database, 100, scope=scope_of_tests(UUID(int=2)))
    assert not spend(database, 1, scope=scope_of_tests(UUID(int=1)))


def test_many_workers_at_once_spend_no_more_than_there_is(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda _: spend(database, 9), range(24)))
    assert sum(passed) == 11
    assert sent(database) == [99]
