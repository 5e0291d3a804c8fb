"""What a step sees while it runs: its job, short reads and writes, progress, and its end."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from mavedb_audit import accounts
from mavedb_audit.database import connect, connect_patiently
from mavedb_audit.errors import DatabaseUnreachableError, StepError
from mavedb_audit.failures import Failure, classify
from mavedb_audit.limits import slot_at
from mavedb_audit.logs import logger_of
from mavedb_audit.metrics import Meter, Usage
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.prefect_ui import StepProgress
from mavedb_audit.recorder import attempts
from mavedb_audit.recorder.attempts import Attempt, Job
from mavedb_audit.services import Service

logger = logger_of(__name__)

_PROGRESS_INTERVAL_SECONDS = 1.0


@dataclass
class Finish:
    """The transaction that ends a step: its results, its variants' statuses and its outcome.

    `data` becomes the job's result; `account` adds the number of variants of each status to it.
    Setting `failure` keeps what was written and ends the step as failed.
    """

    connection: Connection
    job: Job
    meter: Meter
    data: dict[str, Any] = field(default_factory=dict)
    failure: StepError | None = None

    def account(
        self,
        annotation_type: AnnotationType,
        version: str | None,
        statuses: Iterable[accounts.Status],
    ) -> None:
        """Record one status for every variant of the step's scope."""
        counts = accounts.write(
            self.connection,
            job_id=self.job.job_id,
            score_set_id=score_set_of(self.job),
            annotation_type=annotation_type,
            version=version,
            statuses=statuses,
        )
        self.data[annotation_type] = counts
        self.meter.variants = sum(counts.values())


def score_set_of(job: Job) -> int:
    """The score set whose variants the job accounts for."""
    if job.score_set_id is None:
        raise LookupError(f"{job.key} was planned without a score set")
    return job.score_set_id


@dataclass
class Step:
    """A running step. Ends by leaving `finishing()` normally, or by `skip()`."""

    attempt: Attempt
    tries_left: bool
    bar: StepProgress
    meter: Meter = field(default_factory=Meter)
    finish: Finish | None = None
    skipped_because: str | None = None
    _progress_shown_at: float = float("-inf")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A short transaction that sees one state of the database throughout."""
        with connect_patiently() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A short transaction that others see at once, before the step's end. Fenced."""
        with connect_patiently() as connection, connection.begin():
            self._lock_accounts(connection)
            yield connection
            attempts.hold_attempt(connection, self.attempt)

    @contextmanager
    def finishing(self) -> Iterator[Finish]:
        """The step's last transaction. Whatever it writes is committed with the step's success.

        Raises AttemptLostError, and writes nothing, when the attempt is no longer current.
        """
        with connect_patiently() as connection, connection.begin():
            self._lock_accounts(connection)
            finish = Finish(connection, self.attempt.job, self.meter)
            yield finish
            used = self.meter.usage()
            if finish.failure is None:
                attempts.finish_attempt(connection, self.attempt, finish.data, used)
            else:
                self.fail(connection, classify(finish.failure), used)
        self.finish = finish
        if finish.failure is None:
            self.bar.end()

    def fail(self, connection: Connection, failure: Failure, used: Usage) -> None:
        """End the attempt as failed, to be tried again where that is worth it and a try is left."""
        will_be_retried = self.tries_left and failure.retryable
        attempts.fail_attempt(
            connection, self.attempt, failure, used, will_be_retried=will_be_retried
        )

    def skip(self, why: str) -> None:
        """End the step as skipped: this installation is set up not to run it."""
        with connect_patiently() as connection, connection.begin():
            attempts.skip_attempt(connection, self.attempt, why, self.meter.usage())
        self.skipped_because = why

    def progress(self, current: int, total: int, message: str) -> None:
        """Show others how far the step is, at most once a second.

        Not within `finishing()`, whose locks it would wait for. It never fails the step.
        """
        now = time.monotonic()
        if now - self._progress_shown_at < _PROGRESS_INTERVAL_SECONDS:
            return
        self._progress_shown_at = now
        try:
            with connect() as connection, connection.begin():
                attempts.report_progress(connection, self.attempt, current, total, message)
        except (SQLAlchemyError, DatabaseUnreachableError) as error:
            logger.warning("progress.not_shown", error=str(error))
        self.bar.show(100 * current / total if total else 0.0, message)

    @contextmanager
    def asking(self, service: Service) -> Iterator[None]:
        """Hold one of the service's slots, so that all steps together ask no more than it bears."""
        with slot_at(service, on_wait=lambda: self.progress(0, 100, f"Waiting for {service}")):
            yield

    @property
    def scope(self) -> dict[str, int]:
        """The parameters of `scopes.IN_SCOPE` for this step's variants."""
        job = self.attempt.job
        return {"job_id": job.job_id, "score_set_id": score_set_of(job)}

    def _lock_accounts(self, connection: Connection) -> None:
        score_set_id = self.attempt.job.score_set_id
        if score_set_id is not None:
            accounts.lock_accounts(connection, [score_set_id])
