"""The first schema: our tables, the queue's, and who may do what.

The queue's SQL comes from the installed procrastinate, so its digest is checked: with another release, copy that
release's text into a file beside this one and add procrastinate's own migration as a new revision.
"""

import hashlib
from pathlib import Path

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Of procrastinate 3.10.
QUEUE_SCHEMA_SHA256 = "c70ec4b400a60ad9592787653aae5ae77ae41bf801d56b5bd2712751a07f2009"


def upgrade() -> None:
    here = Path(__file__).parent
    run((here / "r0001_tables.sql").read_text())
    run(queue_schema())
    run((here / "r0001_access.sql").read_text())


def downgrade() -> None:
    raise RuntimeError("the first schema is not taken back: that would drop the log")


def queue_schema() -> str:
    """Give the SQL of the queue's tables and functions."""
    schema = SchemaManager.get_schema()
    if hashlib.sha256(schema.encode()).hexdigest() != QUEUE_SCHEMA_SHA256:
        raise RuntimeError("this is not procrastinate 3.10, whose schema this revision installs")
    return schema


def run(statements: str) -> None:
    """Run several statements as they stand, in the migration's transaction."""
    op.get_bind().connection.driver_connection.execute(statements)
