"""Alembic's entry: run revisions on the connection that app/db/engine.py opened, or on `-x url=...`.

Invariants: all revisions of one upgrade are one transaction; tables of the queue are not compared with ours, since
procrastinate owns them.
"""

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

import app.db.cross_test_tables
import app.db.derivation_tables  # its tables stand beside the others
import app.db.lifecycle_tables
import app.db.notice_tables
import app.db.people_tables  # noqa: F401
from app.db.engine import normalize_url
from app.db.tables import Base


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave the queue's tables out of the comparison."""
    return not (kind == "table" and (name or "").startswith("procrastinate_"))


def migrate(connection: Connection) -> None:
    """Run the revisions that are missing."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=is_ours,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


connection: Connection | None = context.config.attributes.get("connection")
if connection is not None:
    migrate(connection)
else:
    url = context.get_x_argument(as_dictionary=True)["url"]
    engine = create_engine(normalize_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        migrate(connection)
