"""Named moments at which the driver kills a process: before, in and after a commit of the audit.

Triggers in the deployment's own database wait there for an advisory lock, which the driver holds
while the failpoint is armed. The code under test knows nothing of them.
"""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import psutil
import psycopg
from psycopg.rows import namedtuple_row

from mavedb_audit.pipelines import CREATE, LINK_GNOMAD, MAP, REGISTER, Step

Session = psycopg.Connection[Any]


class Moment(StrEnum):
    """Where in a transaction the process is killed."""

    #: All is written, and COMMIT is not yet sent.
    BEFORE = "before"
    #: COMMIT is under way, and the database session dies with the process.
    IN = "in"
    #: PostgreSQL has committed, and nobody was left to hear of it.
    AFTER = "after"


_OUTCOMES = {Moment.BEFORE: "aborted", Moment.IN: "aborted", Moment.AFTER: "committed"}


def _success_of(step: Step) -> tuple[str, str]:
    return (
        "UPDATE ON job_runs",
        "OLD.status = 'running' AND NEW.status = 'succeeded'"
        f" AND NEW.job_function = '{step.function}'",
    )


#: Which transactions, each by a row that it writes: as a trigger's event and its condition.
COMMITS: Mapping[str, tuple[str, str]] = {
    "dispatch": ("UPDATE ON pipeline_requests", "NEW.dispatched_at IS NOT NULL"),
    "opening": ("UPDATE ON pipelines", "OLD.status <> 'running' AND NEW.status = 'running'"),
    "beginning": ("INSERT ON job_attempts", "true"),
    "creation": _success_of(CREATE),
    "mapping": _success_of(MAP),
    "registration": _success_of(REGISTER),
    "linking": _success_of(LINK_GNOMAD),
    "failure": ("UPDATE ON job_attempts", "OLD.outcome IS NULL AND NEW.outcome = 'failed'"),
    "closing": (
        "UPDATE ON pipelines",
        "OLD.status = 'running' AND NEW.status IN ('failed', 'cancelled', 'partial')",
    ),
    "mirroring": ("INSERT ON prefect_transitions", "NEW.source = 'mirror'"),
    "recovery": ("INSERT ON operator_actions", "NEW.actor = 'recovery'"),
}
FAILPOINTS = tuple(f"{moment} {commit}" for commit in COMMITS for moment in Moment)

#: Nothing stays held once it is passed: a transaction may come by several failpoints.
_WAIT = """
    CREATE SCHEMA IF NOT EXISTS chaos;
    CREATE FUNCTION chaos.wait() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE failpoint text;
    BEGIN
        FOREACH failpoint IN ARRAY TG_ARGV LOOP
            PERFORM pg_advisory_lock_shared(hashtextextended('chaos:' || failpoint, 0));
            PERFORM pg_advisory_unlock_shared(hashtextextended('chaos:' || failpoint, 0));
        END LOOP;
        RETURN NULL;
    END $$
"""

_WAITING = """
    SELECT DISTINCT ON (failpoint.name) failpoint.name, session.pid, session.client_port,
           CAST(CAST(session.backend_xid AS text) AS xid8) AS transaction
      FROM unnest(CAST(%s AS text[])) AS failpoint (name)
      JOIN pg_locks ON locktype = 'advisory' AND NOT granted AND objsubid = 1
       AND (classid::bigint << 32 | objid::bigint)
           = hashtextextended('chaos:' || failpoint.name, 0)
      JOIN pg_stat_activity AS session USING (pid)
     ORDER BY failpoint.name, session.query_start
"""


@dataclass(frozen=True)
class Struck:
    """A process that was killed at a failpoint."""

    failpoint: str
    process_id: int


@dataclass
class Failpoints:
    """The failpoints of one database, and those that are armed. All raise
    psycopg.OperationalError while the database does not answer; what is armed is armed again.
    """

    database_url: str
    armed: set[str] = field(default_factory=set)
    _session: Session | None = None

    def install(self) -> None:
        session = self._connected()
        session.execute(_WAIT)
        for commit, written in COMMITS.items():
            event, condition = written
            session.execute(
                f"CREATE TRIGGER before_{commit} AFTER {event} FOR EACH ROW WHEN ({condition})"
                f" EXECUTE FUNCTION chaos.wait('before {commit}')"
            )
            session.execute(
                f"CREATE CONSTRAINT TRIGGER in_{commit} AFTER {event}"
                f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({condition})"
                f" EXECUTE FUNCTION chaos.wait('in {commit}', 'after {commit}')"
            )

    def arm(self, failpoint: str) -> None:
        """Let whatever transaction comes there wait."""
        session = self._connected()
        if failpoint not in self.armed:
            self._take(session, failpoint)
            self.armed.add(failpoint)

    def disarm(self) -> None:
        """Let everybody pass."""
        self.armed.clear()
        self._connected().execute("SELECT pg_advisory_unlock_all()")

    def strike(self) -> list[Struck]:
        """Kill the processes that wait at an armed failpoint, and disarm those failpoints."""
        session = self._connected()
        with session.cursor(row_factory=namedtuple_row) as cursor:
            waiting = cursor.execute(_WAITING, [sorted(self.armed)]).fetchall()
        struck = []
        for name, backend, port, transaction in waiting:
            moment = Moment(name.split()[0])
            process_id = _kill(port)
            if process_id is None or moment is Moment.IN:
                session.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
            # Past all failpoints: the transaction may come by others, whose process is dead now.
            session.execute("SELECT pg_advisory_unlock_all()")
            has_ended_so = _outcome(session, transaction) == _OUTCOMES[moment]
            if process_id is not None and has_ended_so:
                struck.append(Struck(name, process_id))
                self.armed.remove(name)
            # Else it gave up the wait, or was killed, a moment before: the failpoint stays armed.
            self._take_all(session)
        return struck

    def _take(self, session: Session, failpoint: str) -> None:
        session.execute("SELECT pg_advisory_lock(hashtextextended('chaos:' || %s, 0))", [failpoint])

    def _take_all(self, session: Session) -> None:
        for failpoint in sorted(self.armed):
            self._take(session, failpoint)

    def _connected(self) -> Session:
        """The session that holds the locks: a new one takes them anew."""
        if self._session is None or self._session.closed:
            self._session = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
            self._take_all(self._session)
        return self._session


def _outcome(session: Session, transaction: int) -> str:
    """How the transaction ended: committed or aborted."""
    outcome = "in progress"
    while outcome == "in progress":
        time.sleep(0.02)
        row = session.execute("SELECT pg_xact_status(%s)", [transaction]).fetchone()
        assert row is not None
        outcome = row[0]
    return outcome


def _kill(port: int) -> int | None:
    """Kill the process whose end of a connection has that port here. Gives its pid, if it lived."""
    for connection in psutil.net_connections("tcp4"):
        if connection.laddr.port == port and connection.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(connection.pid, signal.SIGKILL)
                return int(connection.pid)
    return None
