"""The schema that the migrations make is the one that tables.py describes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import CheckConstraint, text

import app.db.cross_test_tables
import app.db.derivation_tables  # its tables stand beside the others
import app.db.lifecycle_tables
import app.db.notice_tables
import app.db.people_tables  # noqa: F401
from app.db.engine import migrations_config, upgrade
from app.db.tables import Base
from tests.conftest import Database


def test_tables_and_migrations_do_not_differ(any_database: Database) -> None:
    config = migrations_config()
    with any_database.owner.begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_every_check_of_the_tables_stands_in_the_database(any_database: Database) -> None:
    """`alembic check` does not compare these."""
    described = {
        (table.name, str(constraint.name))
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    with any_database.owner.begin() as connection:
        rows = connection.execute(
            text("SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conrelid > 0")
        ).all()
    found = {(row[0], row[1]) for row in rows if not row[0].startswith("procrastinate_")}
    assert described == {item for item in found if item[0] in Base.metadata.tables}


def test_upgrading_twice_changes_nothing(unmigrated_database: Database) -> None:
    upgrade(unmigrated_database.owner_url)
    upgrade(unmigrated_database.owner_url)
    with unmigrated_database.owner.begin() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0001"


def test_of_several_upgrades_at_once_one_works_and_the_others_wait(unmigrated_database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(upgrade, unmigrated_database.owner_url) for _ in range(4)]:
            done.result(60)


def test_an_upgrade_that_fails_leaves_nothing(unmigrated_database: Database) -> None:
    with unmigrated_database.owner.begin() as connection:
        connection.execute(text("CREATE TABLE queries (in_the_way int)"))
    with pytest.raises(Exception, match="queries"):
        upgrade(unmigrated_database.owner_url)
    with unmigrated_database.owner.begin() as connection:
        assert connection.scalar(text("SELECT to_regclass('log_entries')")) is None


def test_the_first_schema_is_not_taken_back(any_database: Database) -> None:
    config = migrations_config()
    with any_database.owner.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="drop the log"):
            command.downgrade(config, "base")
