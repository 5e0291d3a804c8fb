"""Make the real tables of MaveDB's current release, and ours beside them, in DATABASE_URL."""

from alembic import command
from alembic.config import Config
from mavedb.db.base import Base
from sqlalchemy import text

from deployments.local.stack import PROJECT
from mavedb_audit.database import engine
from tests.contract.models import import_models

#: What MaveDB's API writes and the demo's score sets lack. No job of ours touches these columns.
_GIVEN_BY_THE_API = (
    "ALTER TABLE users ALTER is_first_login SET DEFAULT false",
    "ALTER TABLE experiments ALTER external_links SET DEFAULT '{}'",
    "ALTER TABLE scoresets ALTER external_links SET DEFAULT '{}'",
)


def main() -> None:
    import_models()
    with engine().begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
        Base.metadata.create_all(connection)
        for statement in _GIVEN_BY_THE_API:
            connection.execute(text(statement))
    command.upgrade(Config(PROJECT / "alembic.ini"), "head")


if __name__ == "__main__":
    main()
