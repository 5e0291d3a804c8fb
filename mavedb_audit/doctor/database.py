"""Checks of MaveDB's database: is it there, is it ours, may we, do its sessions hold locks."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from mavedb_audit.database import check_schema, connect, lock_url
from mavedb_audit.doctor.findings import Finding, fine, first_line, unseen, wrong
from mavedb_audit.errors import DatabaseUnreachableError, SchemaError
from mavedb_audit.models import OUR_TABLES
from mavedb_audit.settings import settings
from mavedb_audit.trigger import REQUESTS_CHANNEL

_MIGRATIONS = Path(__file__).parents[2] / "alembic"
#: How far two clocks may be apart before times of one are taken for those of another.
MOST_SECONDS_APART = 2.0
_MOST_LAG_SECONDS = 60.0

#: What `serve` and the steps do to tables besides reading and inserting, which they may everywhere.
_CHANGED: Mapping[str, tuple[str, ...]] = {
    "pipelines": ("UPDATE",),
    "job_runs": ("UPDATE",),
    "variant_annotation_status": ("UPDATE",),
    "scoresets": ("UPDATE",),
    "variants": ("DELETE",),
    "mapped_variants": ("UPDATE", "DELETE"),
    "pipeline_requests": ("UPDATE", "DELETE"),
    "prefect_runs": ("UPDATE",),
    "job_attempts": ("UPDATE",),
    "mirror_checkpoints": ("UPDATE",),
    "account_counts": ("DELETE",),
    "status_confirmations": ("DELETE",),
    "alerts": ("UPDATE",),
    "alert_checks": ("UPDATE",),
    "alert_deliveries": ("UPDATE",),
}
_ONLY_READ_OR_UPDATED = frozenset({"scoresets"})


def reachable() -> Iterable[Finding]:
    name = "database"
    try:
        with connect() as connection:
            version = connection.execute(text("SELECT current_setting('server_version')"))
            yield fine(name, f"answers, PostgreSQL {version.scalar_one()}")
    except DatabaseUnreachableError as error:
        yield wrong(name, first_line(error), "Start it, or mend the variables that are named")


def schema() -> Iterable[Finding]:
    def look(connection: Connection) -> Iterable[Finding]:
        try:
            check_schema(connection)
        except SchemaError as error:
            what, _, remedy = str(error).partition(". ")
            yield wrong("tables", what, remedy or "Check DATABASE_URL")
        else:
            yield fine("tables", "MaveDB's and ours are there")

    return _asking_the_database("tables", look)


def migrations() -> Iterable[Finding]:
    name = "migrations"

    def look(connection: Connection) -> Iterable[Finding]:
        if connection.execute(text("SELECT to_regclass('mavedb_audit_version')")).scalar() is None:
            yield wrong(name, "none was ever run here", "Run `alembic upgrade head`")
            return
        there = connection.execute(text("SELECT version_num FROM mavedb_audit_version")).scalar()
        if not _MIGRATIONS.is_dir():
            yield unseen(name, f"the database is at {there}; the migrations are not installed here")
            return
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        head = ScriptDirectory.from_config(config).get_current_head()
        if there == head:
            yield fine(name, f"all are run, up to {head}")
        else:
            yield wrong(
                name,
                f"the database is at {there}, the newest is {head}",
                "Run `alembic upgrade head`",
            )

    return _asking_the_database(name, look)


def rights() -> Iterable[Finding]:
    name = "rights"

    def look(connection: Connection) -> Iterable[Finding]:
        tables = sorted(OUR_TABLES | _CHANGED.keys())
        needed = [
            (table, right)
            for table in tables
            for right in (
                "SELECT",
                *([] if table in _ONLY_READ_OR_UPDATED else ["INSERT"]),
                *_CHANGED.get(table, ()),
            )
        ]
        rows = connection.execute(
            text(
                """
                SELECT format('%s on %s', needed.allowed, needed.relation)
                  FROM unnest(CAST(:tables AS text[]), CAST(:rights AS text[]))
                       AS needed (relation, allowed)
                 WHERE to_regclass(needed.relation) IS NOT NULL
                   AND NOT CASE needed.allowed
                       WHEN 'DELETE' THEN has_table_privilege(needed.relation, 'DELETE')
                       ELSE has_any_column_privilege(needed.relation, needed.allowed) END
                 ORDER BY needed.relation
                """
            ),
            {"tables": [table for table, _ in needed], "rights": [right for _, right in needed]},
        )
        lacking = list(rows.scalars())
        may_make_temporary: bool = connection.execute(
            text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
        ).scalar_one()
        if not may_make_temporary:
            lacking.append("TEMPORARY on the database")
        role: str = connection.execute(text("SELECT current_user")).scalar_one()
        if lacking:
            yield wrong(
                name,
                f"the role {role} lacks {', '.join(lacking)}",
                "Run deployments/production/role.sql, and connect as a role that it made",
            )
        else:
            yield fine(name, f"the role {role} has those it needs")

    return _asking_the_database(name, look)


#: Whether the session that asks holds the lock.
_IS_MINE = """
    SELECT EXISTS (SELECT FROM pg_locks
                    WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
                      AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0))
"""


def pooler() -> Iterable[Finding]:
    """Whether a session is ours alone. A pooler of transactions gives one of its sessions to
    whoever begins a transaction: then another of ours has our lock, or we ask without it.
    """
    name = "sessions"
    key = f"mavedb_audit:doctor:{uuid4()}"
    url = lock_url().set(drivername="postgresql").render_as_string(hide_password=False)
    seconds = settings().database_connect_timeout_seconds
    try:
        with ExitStack() as open_sessions:
            mine, others = (
                open_sessions.enter_context(
                    psycopg.connect(url, autocommit=True, connect_timeout=seconds)
                )
                for _ in range(2)
            )
            mine.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
            with others.transaction():
                is_ours_alone = not _is_true(
                    others, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key
                ) and _is_true(mine, _IS_MINE, key)
            mine.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])
    except psycopg.OperationalError as error:
        yield unseen(name, f"the database for locks does not answer: {first_line(error)}")
        return
    if is_ours_alone:
        yield fine(name, "hold locks")
        return
    yield wrong(
        name,
        "do not hold locks: a pooler gives them to one client after another",
        "Set LOCK_DATABASE_URL to PostgreSQL itself, or pool sessions, not transactions",
    )


def _is_true(session: psycopg.Connection[Any], question: str, key: str) -> bool:
    row = session.execute(question, [key]).fetchone()
    return row is not None and bool(row[0])


def clock() -> Iterable[Finding]:
    name = "clock of the database"

    def look(connection: Connection) -> Iterable[Finding]:
        before = datetime.now(UTC)
        there: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        after = datetime.now(UTC)
        yield apart(name, there, before, after)

    return _asking_the_database(name, look)


def apart(
    name: str, there: datetime, before: datetime, after: datetime, resolution: float = 0.0
) -> Finding:
    """How far the clock `there`, read between two moments of ours, is from our own."""
    middle = before + (after - before) / 2
    seconds = (there - middle).total_seconds()
    if abs(seconds) > MOST_SECONDS_APART + resolution + (after - before).total_seconds() / 2:
        which = "ahead of" if seconds > 0 else "behind"
        return wrong(
            name,
            f"{abs(seconds):.1f} seconds {which} this host's",
            "Set both clocks by NTP: states are ordered by their times",
        )
    return fine(name, "is that of this host, within 2 seconds")


def mirror() -> Iterable[Finding]:
    """How late states are recorded, and whether somebody runs `serve`."""

    def look(connection: Connection) -> Iterable[Finding]:
        listening: bool = connection.execute(
            text(
                """
                SELECT EXISTS (SELECT FROM pg_stat_activity
                                WHERE datname = current_database() AND query = :listen)
                """
            ),
            {"listen": f"LISTEN {REQUESTS_CHANNEL}"},
        ).scalar_one()
        sees_all: bool = connection.execute(
            text("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")
        ).scalar_one()
        row = connection.execute(
            text(
                """
                SELECT (SELECT extract(epoch FROM max(recorded_at - timestamp))
                          FROM prefect_transitions
                         WHERE recorded_at > now() - interval '1 minute'
                           AND timestamp > now() - interval '1 hour')::float AS lag_seconds,
                       (SELECT extract(epoch FROM now() - min(next_dispatch_at))
                          FROM pipeline_requests WHERE dispatched_at IS NULL)::float
                         AS overdue_seconds,
                       (SELECT last_error FROM pipeline_requests
                         WHERE dispatched_at IS NULL AND last_error IS NOT NULL
                         ORDER BY next_dispatch_at LIMIT 1) AS last_error
                """
            )
        ).one()
        if listening:
            yield fine("serve", "runs")
        elif sees_all or _is_only_role(connection):
            yield wrong("serve", "nobody waits for requests", "Start `mavedb-audit serve`")
        else:
            yield unseen("serve", "this role cannot see the sessions of others")
        lag = row.lag_seconds or 0.0
        if lag > _MOST_LAG_SECONDS:
            yield wrong(
                "mirror",
                f"states were recorded up to {lag:.0f} seconds late",
                "See what `mavedb-audit serve` logs; `mavedb-audit reconcile` records the rest",
            )
        else:
            yield fine("mirror", "records states as they come" if listening else "no state is late")
        if row.last_error or (row.overdue_seconds or 0.0) > _MOST_LAG_SECONDS:
            yield wrong(
                "requests",
                f"wait: {row.last_error or 'nobody took them'}",
                "Mend what is named, or start `mavedb-audit serve`; they are not lost",
            )
        else:
            yield fine("requests", "none waits for long")

    return _asking_the_database("mirror", look)


def _is_only_role(connection: Connection) -> bool:
    """Whether what a session asks is shown to us, because it is one of our role, for every one."""
    hidden: bool = connection.execute(
        text(
            """
            SELECT EXISTS (SELECT FROM pg_stat_activity
                            WHERE datname = current_database()
                              AND query = '<insufficient privilege>')
            """
        )
    ).scalar_one()
    return not hidden


def _asking_the_database(
    name: str, look: Callable[[Connection], Iterable[Finding]]
) -> Iterable[Finding]:
    try:
        with connect() as connection:
            yield from look(connection)
    except (DatabaseUnreachableError, OperationalError):
        yield unseen(name, "the database does not answer")
    except ProgrammingError as error:
        yield unseen(name, f"the database does not tell: {first_line(error.orig or error)}")
