"""The per-variant account: the only writer of variant_annotation_status.

Each (variant, annotation type, source version) in a job's scope has one current row that says
whether the annotation is there, and if not, why. Rows move in sets: COPY into a temporary table,
retire what they replace, insert, count.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from mavedb_audit import account_counts, annotation_events
from mavedb_audit.bulk import copy_rows
from mavedb_audit.pipelines import KEPT_PER_VERSION, AnnotationType
from mavedb_audit.reasons import MEANINGS, NOT_REACHED, AnnotationStatus, Reason, explain
from mavedb_audit.release import Release, release_of
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.texts import json_text, storable


@dataclass(frozen=True)
class Status:
    """One variant's outcome for one annotation type.

    `reason` is None exactly when the annotation is there; `addition` is what the service said.
    """

    variant_id: int
    reason: Reason | None = None
    addition: str | None = None
    data: Mapping[str, Any] | None = None


_RETIRE = """
    UPDATE variant_annotation_status AS status
       SET current = false, updated_at = now()
      FROM {source} AS incoming
     WHERE status.variant_id = incoming.variant_id
       AND status.annotation_type = :annotation_type
       AND status.current
       AND (NOT :per_version OR status.version IS NOT DISTINCT FROM :version)
"""

_INSERT = """
    INSERT INTO variant_annotation_status
           (variant_id, annotation_type, version, status, error_message, failure_category,
            {data}, current, job_run_id, created_at, updated_at)
    SELECT incoming_status.variant_id, :annotation_type, :version, status, error_message,
           failure_category, incoming_status.data, true, :job_id, now(), now()
      FROM incoming_status JOIN variants ON variants.id = incoming_status.variant_id
     WHERE variants.scoreset_id = :score_set_id
"""

#: The variants of a job's scope that the job has not accounted for itself. A job that never ran
#: leaves alone what an earlier one found out about the variant as it is mapped now.
#: Set operations, since the planner knows nothing yet of rows that this transaction wrote.
_REST_OF_SCOPE = """
    CREATE TEMPORARY TABLE rest_of_scope ON COMMIT DROP AS
    SELECT variant.id AS variant_id FROM variants AS variant
     WHERE {in_scope}
    EXCEPT
    SELECT own.variant_id FROM variant_annotation_status AS own
     WHERE own.annotation_type = :annotation_type AND own.current AND own.job_run_id = :job_id
       AND ({own_reason} IS NULL OR {own_reason} <> ALL (:not_reached))
    EXCEPT
    SELECT kept.variant_id
      FROM variants AS variant
      JOIN variant_annotation_status AS kept ON kept.variant_id = variant.id
     WHERE :keep_findings AND variant.scoreset_id = :score_set_id
       AND kept.annotation_type = :annotation_type AND kept.current
       AND ({kept_reason} IS NULL OR {kept_reason} <> ALL (:not_reached))
       AND (NOT :per_version OR kept.version IS NOT DISTINCT FROM :version)
       AND NOT EXISTS (
           SELECT FROM variant_annotation_status AS mapping
            WHERE mapping.variant_id = kept.variant_id
              AND mapping.annotation_type = 'vrs_mapping' AND mapping.status = 'success'
              AND mapping.created_at > kept.created_at)
"""

_INSERT_REST = """
    INSERT INTO variant_annotation_status
           (variant_id, annotation_type, version, status, error_message, failure_category,
            {data}, current, job_run_id, created_at, updated_at)
    SELECT variant_id, :annotation_type, :version, :status, :error_message, :failure_category,
           CAST(:data AS jsonb), true, :job_id, now(), now()
      FROM rest_of_scope
"""


def write(
    connection: Connection,
    *,
    job_id: int,
    score_set_id: int,
    annotation_type: AnnotationType,
    version: str | None,
    statuses: Iterable[Status],
) -> dict[str, int]:
    """Record `statuses` as the current ones. Returns how many there are of each status.

    Each variant may come once; one that a new upload has replaced meanwhile is left out. The
    caller's transaction holds it all.
    """
    lock_accounts(connection, [score_set_id])
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE incoming_status (variant_id integer, status text,"
            " error_message text, failure_category text, data jsonb) ON COMMIT DROP"
        )
    )
    release = release_of(connection)
    counts = dict.fromkeys(AnnotationStatus, 0)

    def rows() -> Iterator[tuple[Any, ...]]:
        for status in statuses:
            row = _row(status, release)
            counts[row[1]] += 1
            yield row

    copy_rows(connection, "incoming_status", rows())
    parameters = {
        "annotation_type": annotation_type,
        "version": version,
        "per_version": annotation_type in KEPT_PER_VERSION,
        "job_id": job_id,
        "score_set_id": score_set_id,
    }
    connection.execute(text("ANALYZE incoming_status"))
    connection.execute(text(_RETIRE.format(source="incoming_status")), parameters)
    connection.execute(text(_INSERT.format(data=release.status_data)), parameters)
    account_counts.count_again(
        connection,
        "incoming_status",
        score_set_id=score_set_id,
        annotation_type=annotation_type,
        per_version=annotation_type in KEPT_PER_VERSION,
        version=version,
    )
    if release.has_events:
        annotation_events.write(
            connection,
            "incoming_status",
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            version=version,
        )
    connection.execute(text("DROP TABLE incoming_status"))
    return {str(status): count for status, count in counts.items()}


def write_rest_of_scope(
    connection: Connection,
    *,
    job_id: int,
    score_set_id: int,
    annotation_type: AnnotationType,
    version: str | None,
    reason: Reason,
    addition: str,
) -> None:
    """Give every variant that the job left without a status the same `reason`."""
    lock_accounts(connection, [score_set_id])
    release = release_of(connection)
    category, data = _as_stored(reason, None, release)
    parameters = {
        "job_id": job_id,
        "score_set_id": score_set_id,
        "annotation_type": annotation_type,
        "version": version,
        "per_version": annotation_type in KEPT_PER_VERSION,
        "keep_findings": reason is Reason.UPSTREAM_NOT_DONE,
        "not_reached": sorted(NOT_REACHED),
        "status": MEANINGS[reason].status,
        "error_message": explain(reason, addition),
        "failure_category": category,
        "data": None if data is None else json_text(data),
    }
    rest = _REST_OF_SCOPE.format(
        in_scope=IN_SCOPE, own_reason=release.reason("own"), kept_reason=release.reason("kept")
    )
    connection.execute(text(rest), parameters)
    connection.execute(text(_RETIRE.format(source="rest_of_scope")), parameters)
    connection.execute(text(_INSERT_REST.format(data=release.status_data)), parameters)
    account_counts.count_again(
        connection,
        "rest_of_scope",
        score_set_id=score_set_id,
        annotation_type=annotation_type,
        per_version=annotation_type in KEPT_PER_VERSION,
        version=version,
    )
    # That a job did not reach an allele says nothing of it, and other score sets share the allele.
    if release.has_events and annotation_type in annotation_events.ABOUT_VARIANTS:
        annotation_events.write(
            connection,
            "rest_of_scope",
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            version=version,
        )
    connection.execute(text("DROP TABLE rest_of_scope"))


def withdraw_rest_of_scope(connection: Connection, job_id: int) -> None:
    """Retire what was written for a job that had not reached its variants: it had, after all.

    The caller holds the lock of its score set's account.
    """
    reason = release_of(connection).reason("status")
    connection.execute(
        text(
            f"""
            CREATE TEMPORARY TABLE withdrawn ON COMMIT DROP AS
            SELECT status.id, status.variant_id, status.annotation_type, planned.score_set_id
              FROM variant_annotation_status AS status
              JOIN planned_jobs AS planned ON planned.job_id = status.job_run_id
             WHERE status.job_run_id = :job_id AND status.current
               AND {reason} = ANY (:not_reached)
            """
        ),
        {"job_id": job_id, "not_reached": sorted(NOT_REACHED)},
    )
    connection.execute(
        text(
            """
            UPDATE variant_annotation_status AS status SET current = false, updated_at = now()
              FROM withdrawn WHERE withdrawn.id = status.id
            """
        )
    )
    kinds = connection.execute(text("SELECT DISTINCT score_set_id, annotation_type FROM withdrawn"))
    for score_set_id, annotation_type in kinds.all():
        account_counts.count_again(
            connection,
            "withdrawn",
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            per_version=False,
            version=None,
        )
    connection.execute(text("DROP TABLE withdrawn"))


def _row(
    status: Status, release: Release
) -> tuple[int, AnnotationStatus, str | None, str | None, str | None]:
    category, details = _as_stored(status.reason, status.data, release)
    data = None if details is None else json_text(details)
    if status.reason is None:
        return status.variant_id, AnnotationStatus.SUCCESS, None, None, data
    message = storable(explain(status.reason, status.addition))
    return status.variant_id, MEANINGS[status.reason].status, message, category, data


def _as_stored(
    reason: Reason | None, data: Mapping[str, Any] | None, release: Release
) -> tuple[str | None, Mapping[str, Any] | None]:
    """The failure category and the details to store: where categories are a closed list, ours
    stands in the details."""
    if reason is None or not release.has_closed_categories:
        return reason, data
    return annotation_events.TOLD[reason].category, {**(data or {}), "reason": reason}


def lock_accounts(connection: Connection, score_set_ids: Iterable[int]) -> None:
    """Let one transaction at a time account for a score set: two would each insert a current row.

    Taken before any lock on a pipeline or a job, so that all writers meet in one order.
    """
    for score_set_id in sorted(score_set_ids):
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
            {"key": f"mavedb_audit:account:{score_set_id}"},
        )
