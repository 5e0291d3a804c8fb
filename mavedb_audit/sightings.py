"""Records the states that Prefect's events told of, and counts what became of each event."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from prefect.events.schemas.events import Event
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mavedb_audit.database import connect
from mavedb_audit.errors import DatabaseUnreachableError
from mavedb_audit.events import OUR_FLOWS, MalformedEventError, flow_name_of, transition_of
from mavedb_audit.logs import logger_of
from mavedb_audit.recorder.transitions import record
from mavedb_audit.states import STATE_NAMES, Transition

logger = logger_of(__name__)

#: How long a batch waits for a pipeline that somebody else holds, before others go first.
_LOCK_TIMEOUT = "250ms"
#: The stream's name in mirror_checkpoints.
_STREAM = "events"

#: The database is away, or cannot take anything now: the state itself is not to blame.
OUTAGES = (
    DatabaseUnreachableError,
    OperationalError,
    InterfaceError,
    InternalError,
    PoolTimeoutError,
)


@dataclass(frozen=True)
class Counts:
    """What became of the events that this process has received.

    `recorded` includes what others had recorded before; `unknown` are those of them whose state has
    a name that STATE_NAMES lacks. `lag_seconds` is from the newest state of the last batch to its
    commit. The mappings are from a kind of event, of state, or of fault, to a number.
    """

    recorded: int
    unknown: Mapping[str, int]
    ignored: Mapping[str, int]
    malformed: Mapping[str, int]
    refused: Mapping[str, int]
    dropped: int
    lag_seconds: float | None


_lock = threading.Lock()
_counted: Counter[tuple[str, str]] = Counter()
_lag_seconds: float | None = None


def count(outcome: str, kind: str = "", number: int = 1) -> bool:
    """Count events under a field of Counts; returns whether they are the first of their kind."""
    with _lock:
        _counted[outcome, kind] += number
        return _counted[outcome, kind] == number


def counts() -> Counts:
    """The counts of this process since it started."""
    with _lock:
        counted = dict(_counted)

    def kinds_of(outcome: str) -> dict[str, int]:
        return {kind: number for (of, kind), number in counted.items() if of == outcome}

    return Counts(
        recorded=counted.get(("recorded", ""), 0),
        unknown=kinds_of("unknown"),
        ignored=kinds_of("ignored"),
        malformed=kinds_of("malformed"),
        refused=kinds_of("refused"),
        dropped=counted.get(("dropped", ""), 0),
        lag_seconds=_lag_seconds,
    )


@dataclass(frozen=True)
class Sighting:
    """A state that an event told of. `is_ours` is None where the event does not say whose it is."""

    transition: Transition
    is_ours: bool | None

    @property
    def run_ids(self) -> list[UUID]:
        run = self.transition.run
        return [run.run_id, *([run.flow_run_id] if run.flow_run_id else [])]


def sightings_of(events: Iterable[Event]) -> list[Sighting]:
    """The states of runs that are ours, or may be. The rest is counted, and logged once a kind."""
    sightings = []
    for event in events:
        try:
            transition = transition_of(event)
        except MalformedEventError as error:
            if count("malformed", error.kind):
                logger.warning("mirror.event_malformed", error=str(error))
            continue
        if transition is None:
            if count("ignored", event.event):
                logger.info("mirror.event_ignored", why="not a state of a run", name=event.event)
            continue
        flow_name = flow_name_of(event)
        sighting = Sighting(transition, None if flow_name is None else flow_name in OUR_FLOWS)
        if sighting.is_ours is False:
            _ignore_foreign(sighting, flow_name)
        else:
            sightings.append(sighting)
    return sightings


def _ignore_foreign(sighting: Sighting, flow_name: str | None) -> None:
    run = sighting.transition.run
    if count("ignored", f"{run.kind} run of another flow"):
        logger.info(
            "mirror.event_ignored",
            why=f"a {run.kind} run of another flow",
            name=run.name,
            flow=flow_name,
        )


def record_sightings(sightings: Sequence[Sighting], *, move_checkpoint: bool) -> list[Sighting]:
    """Record all at once; else flow run by flow run, or without those that are refused.

    Returns the ones to try again: somebody else holds the rows of their flow run. In an outage of
    the database raises one of OUTAGES, and may leave some unrecorded. `move_checkpoint` says that
    nothing older is missing.
    """
    try:
        _record_at_once(sightings, move_checkpoint=move_checkpoint)
    except OUTAGES as error:
        if not _is_held(error):
            raise
        parts = _by_flow_run(sightings)
        if len(parts) == 1:
            return list(sightings)
    except (SQLAlchemyError, LookupError, ValueError) as error:
        if len(sightings) == 1:
            _refuse(sightings[0], error)
            return []
        half = len(sightings) // 2
        parts = [sightings[:half], sightings[half:]]
    else:
        return []
    return [
        held for part in parts for held in record_sightings(part, move_checkpoint=move_checkpoint)
    ]


def _is_held(error: Exception) -> bool:
    return isinstance(error, OperationalError) and isinstance(
        error.orig, LockNotAvailable | DeadlockDetected
    )


def _by_flow_run(sightings: Sequence[Sighting]) -> list[Sequence[Sighting]]:
    parts: dict[UUID, list[Sighting]] = {}
    for sighting in sightings:
        parts.setdefault(sighting.run_ids[-1], []).append(sighting)
    return [*parts.values()]


def _refuse(sighting: Sighting, error: Exception) -> None:
    if count("refused", type(error).__name__):
        logger.error("mirror.state_refused", state=str(sighting.transition), error=str(error))


def _record_at_once(sightings: Sequence[Sighting], *, move_checkpoint: bool) -> None:
    with connect() as connection, connection.begin():
        connection.execute(
            text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": _LOCK_TIMEOUT}
        )
        ours, foreign = _divide(connection, sightings)
        record(connection, [sighting.transition for sighting in ours])
        if ours and move_checkpoint:
            # Last in the transaction, so that who waits for this row holds up nobody.
            _move_checkpoint(connection, max(s.transition.timestamp for s in ours))
    if ours:
        count("recorded", number=len(ours))
    if ours and move_checkpoint:
        _measure_lag(ours)
    for sighting in ours:
        note_unknown(sighting.transition)
    for sighting in foreign:
        _ignore_foreign(sighting, None)


def note_unknown(transition: Transition) -> None:
    """A state of a name that nobody has seen counts by its type, and is logged once."""
    if transition.name in STATE_NAMES[transition.type]:
        return
    if count("unknown", f"{transition.name} ({transition.type})"):
        logger.warning(
            "mirror.state_unknown",
            state=transition.name,
            recorded_as=transition.type,
            kind=transition.run.kind.value,
            name=transition.run.name,
        )


def _measure_lag(sightings: Sequence[Sighting]) -> None:
    global _lag_seconds
    newest = max(sighting.transition.timestamp for sighting in sightings)
    _lag_seconds = (datetime.now(UTC) - newest).total_seconds()


def _divide(
    connection: Connection, sightings: Sequence[Sighting]
) -> tuple[list[Sighting], list[Sighting]]:
    """Those that are ours, and those that are not: where the event does not say, we know the run
    or its flow run, or not."""
    unclear = [run_id for s in sightings if s.is_ours is None for run_id in s.run_ids]
    known = _known_runs(connection, unclear) if unclear else set()
    ours = [s for s in sightings if s.is_ours or not known.isdisjoint(s.run_ids)]
    foreign = [s for s in sightings if not s.is_ours and known.isdisjoint(s.run_ids)]
    return ours, foreign


def _known_runs(connection: Connection, run_ids: Sequence[UUID]) -> set[UUID]:
    return set(
        connection.execute(
            text("SELECT run_id FROM prefect_runs WHERE run_id = ANY (:ids)"), {"ids": run_ids}
        ).scalars()
    )


def read_checkpoint() -> datetime | None:
    """Until when nothing is missing, as far as any mirror knows; None before the first."""
    with connect() as connection:
        checkpoint: datetime | None = connection.execute(
            text("SELECT occurred FROM mirror_checkpoints WHERE stream = :stream"),
            {"stream": _STREAM},
        ).scalar_one_or_none()
    return checkpoint


def _move_checkpoint(connection: Connection, occurred: datetime) -> None:
    """Never back, and not into the future, whatever the clock of the run's host says."""
    connection.execute(
        text(
            """
            INSERT INTO mirror_checkpoints (stream, occurred)
            VALUES (:stream, least(:occurred, clock_timestamp()))
            ON CONFLICT (stream) DO UPDATE SET occurred = excluded.occurred
             WHERE mirror_checkpoints.occurred < excluded.occurred
            """
        ),
        {"stream": _STREAM, "occurred": occurred},
    )
