"""Runs the migrations on the database of DATABASE_URL or DB_*, all of them in one transaction.

A caller may hand over a connection in `config.attributes["connection"]`; if it has begun a
transaction, the caller commits it.
"""

from logging.config import fileConfig

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, inspect

from mavedb_audit.database import connect
from mavedb_audit.errors import ConfigurationError, MaveDBAuditError, SchemaError
from mavedb_audit.models import metadata


def run() -> None:
    if context.is_offline_mode():
        raise ConfigurationError(
            "The migrations look at the database they run on, so they cannot be written out"
            " as SQL: leave out --sql"
        )
    given: Connection | None = context.config.attributes.get("connection")
    if given is not None:
        migrate(given)
        return
    if context.config.config_file_name:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    with connect() as connection:
        migrate(connection)


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table="mavedb_audit_version",
        include_name=is_in_models,
        compare_server_default=True,
    )
    with context.begin_transaction():
        if is_standalone():
            forbid_in_mavedbs_database(connection)
        context.run_migrations()


def is_in_models(name: str | None, kind: str, _parents: object) -> bool:
    """Keep `alembic check` and `revision --autogenerate` off what else MaveDB's database holds."""
    return kind != "table" or name in metadata.tables


def is_standalone() -> bool:
    options = context.get_x_argument(as_dictionary=True)
    for name, value in options.items():
        if name != "standalone" or value not in ("true", "false"):
            raise ConfigurationError(f"-x {name}={value} is unknown; there is -x standalone=true")
    return options.get("standalone") == "true"


def forbid_in_mavedbs_database(connection: Connection) -> None:
    """Keep MaveDB's tables from being made, or dropped, beside MaveDB's own migrations."""
    if "alembic_version" in inspect(connection).get_table_names():
        raise SchemaError(
            "This is MaveDB's own database: it has alembic_version, the table of MaveDB's"
            " migrations. Leave out -x standalone=true"
        )


try:
    run()
except MaveDBAuditError as error:
    # Alembic's command line shows this kind as one line, others with their traceback.
    raise CommandError(str(error)) from error
