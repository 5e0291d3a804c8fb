"""The per-variant account: the only writer of variant_annotation_status.

Each (variant, annotation type, source version) in a job's scope has one current row that says
whether the annotation is there, and if not, why. Rows move in sets: COPY into a temporary table,
retire what they replace, insert, count.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, text

from mavedb_audit import account_counts, annotation_events, confirmations
from mavedb_audit.account_counts import current_of
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


#: Types whose every run makes another mapping or submission, even if its status reads the same.
_MADE_ANEW = frozenset({AnnotationType.VRS_MAPPING, AnnotationType.LDH_SUBMISSION})

#: The current statuses of the incoming variants, and whether one says what the incoming one says.
#: A failure is an event of its own each time.
#: OFFSET 0, here and below, has each variant looked up: the planner may know nothing yet of rows
#: that were written since the table was last analysed, and would else read all of them for each.
_STANDING = """
    CREATE TEMPORARY TABLE standing_status ON COMMIT DROP AS
    SELECT incoming.variant_id, standing.id, :may_stay AND standing.alike AS unchanged
      FROM incoming_status AS incoming
     CROSS JOIN LATERAL (
        SELECT status.id,
               status.status = incoming.status AND status.status <> 'failed'
               AND coalesce({reason}, '') <> ALL (:not_reached)
               AND status.version IS NOT DISTINCT FROM :version
               AND status.failure_category IS NOT DISTINCT FROM incoming.failure_category
               AND status.error_message IS NOT DISTINCT FROM incoming.error_message
               AND status.{data} IS NOT DISTINCT FROM incoming.{data} AS alike
          FROM variant_annotation_status AS status
         WHERE {is_current}
        OFFSET 0
      ) AS standing
"""

_COUNT_STANDING = """
    SELECT count(*) AS there, count(*) FILTER (WHERE unchanged) AS unchanged,
           count(DISTINCT variant_id) AS variants
      FROM standing_status
"""

#: An earlier system left several current statuses of a variant: all of them make way for one.
_LET_SEVERAL_GO = """
    UPDATE standing_status SET unchanged = false
     WHERE variant_id IN (SELECT variant_id FROM standing_status GROUP BY 1 HAVING count(*) > 1)
"""

_LEAVE_OUT_REPLACED = """
    DELETE FROM incoming_status AS incoming
     WHERE NOT EXISTS (SELECT FROM variants
                        WHERE id = incoming.variant_id AND scoreset_id = :score_set_id)
"""
_LEAVE_OUT_UNCHANGED = """
    DELETE FROM incoming_status AS incoming USING standing_status AS standing
     WHERE standing.variant_id = incoming.variant_id AND standing.unchanged
"""

_RETIRE = """
    UPDATE variant_annotation_status AS status
       SET current = false, updated_at = now()
      FROM ({ids}) AS replaced
     WHERE status.id = replaced.id
"""
_CHANGED = "SELECT id FROM standing_status WHERE NOT unchanged"
_OF_REST = """
    SELECT found.id FROM rest_of_scope AS rest
     CROSS JOIN LATERAL (
        SELECT status.id FROM variant_annotation_status AS status WHERE {is_current} OFFSET 0
      ) AS found
"""

_INSERT = """
    INSERT INTO variant_annotation_status
           (variant_id, annotation_type, version, status, error_message, failure_category,
            {data}, current, job_run_id, created_at, updated_at)
    SELECT variant_id, :annotation_type, :version, status, error_message, failure_category,
           {data}, true, :job_id, now(), now()
      FROM incoming_status
"""

#: What the job has told of: the incoming statuses that are left, and those that it confirmed.
_TOLD = """(
    SELECT variant_id FROM incoming_status
     UNION
    SELECT variant_id FROM standing_status WHERE unchanged
)"""

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
    SELECT confirmed.variant_id FROM {confirmed_by_job} AS confirmed
     CROSS JOIN LATERAL (
        SELECT FROM variant_annotation_status AS status
         WHERE {is_confirmed} AND status.created_at <= confirmed.confirmed_at
        OFFSET 0
      ) AS own
    EXCEPT
    SELECT kept.variant_id
      FROM variants AS variant
      JOIN variant_annotation_status AS kept ON kept.variant_id = variant.id
      LEFT JOIN LATERAL {last_confirmed} AS again ON true
     WHERE :keep_findings AND variant.scoreset_id = :score_set_id
       AND kept.annotation_type = :annotation_type AND kept.current
       AND ({kept_reason} IS NULL OR {kept_reason} <> ALL (:not_reached))
       AND (NOT :per_version OR kept.version IS NOT DISTINCT FROM :version)
       AND NOT EXISTS (
           SELECT FROM variant_annotation_status AS mapping
            WHERE mapping.variant_id = kept.variant_id
              AND mapping.annotation_type = 'vrs_mapping' AND mapping.status = 'success'
              AND mapping.created_at > coalesce(again.confirmed_at, kept.created_at))
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

    Each variant may come once; one that a new upload has replaced meanwhile is left out. A status
    that says what the variant's current one says leaves that one as it is, confirmed. The caller's
    transaction holds it all.
    """
    lock_accounts(connection, [score_set_id])
    release = release_of(connection)
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE incoming_status (variant_id integer, status text, error_message"
            f" text, failure_category text, {release.status_data} jsonb) ON COMMIT DROP"
        )
    )
    counts = dict.fromkeys(AnnotationStatus, 0)

    def rows() -> Iterator[tuple[Any, ...]]:
        for status in statuses:
            row = _row(status, release)
            counts[row[1]] += 1
            yield row

    copy_rows(connection, "incoming_status", rows())
    per_version = annotation_type in KEPT_PER_VERSION
    parameters = {
        "annotation_type": annotation_type,
        "version": version,
        "job_id": job_id,
        "score_set_id": score_set_id,
        "may_stay": annotation_type not in _MADE_ANEW,
        "not_reached": sorted(NOT_REACHED),
    }
    find_standing = _STANDING.format(
        reason=release.reason("status"),
        data=release.status_data,
        is_current=current_of("incoming.variant_id", per_version=per_version, version=version),
    )
    connection.execute(text(find_standing), parameters)
    standing = connection.execute(text(_COUNT_STANDING)).one()
    if standing.there > standing.variants:
        connection.execute(text(_LET_SEVERAL_GO))
        standing = connection.execute(text(_COUNT_STANDING)).one()
    if standing.unchanged:
        confirmations.write(
            connection,
            "(SELECT variant_id FROM standing_status WHERE unchanged)",
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            version=version,
        )
    if standing.there > standing.unchanged:
        connection.execute(text(_RETIRE.format(ids=_CHANGED)))
    if sum(counts.values()) > standing.unchanged:
        connection.execute(text(_LEAVE_OUT_REPLACED), parameters)
        if standing.unchanged:
            connection.execute(text(_LEAVE_OUT_UNCHANGED))
        connection.execute(text(_INSERT.format(data=release.status_data)), parameters)
        account_counts.count_again(
            connection,
            "incoming_status",
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            per_version=per_version,
            version=version,
            written="SELECT variant_id, CAST(:version AS text) AS version, status,"
            f" {release.reason('incoming_status')} AS reason, now() AS created_at"
            " FROM incoming_status",
        )
    if release.has_events:
        annotation_events.write(
            connection,
            _TOLD,
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            version=version,
        )
    connection.execute(text("DROP TABLE incoming_status, standing_status"))
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
    per_version = annotation_type in KEPT_PER_VERSION
    parameters = {
        "job_id": job_id,
        "score_set_id": score_set_id,
        "annotation_type": annotation_type,
        "version": version,
        "per_version": per_version,
        "keep_findings": reason is Reason.UPSTREAM_NOT_DONE,
        "not_reached": sorted(NOT_REACHED),
        "status": MEANINGS[reason].status,
        "error_message": explain(reason, addition),
        "failure_category": category,
        "data": None if data is None else json_text(data),
    }
    rest = _REST_OF_SCOPE.format(
        in_scope=IN_SCOPE,
        own_reason=release.reason("own"),
        confirmed_by_job=confirmations.CONFIRMED_BY_JOB,
        is_confirmed=current_of("confirmed.variant_id", per_version=per_version, version=version),
        kept_reason=release.reason("kept"),
        last_confirmed=confirmations.last_confirmed("kept", ":score_set_id"),
    )
    connection.execute(text(rest), parameters)
    of_rest = _OF_REST.format(
        is_current=current_of("rest.variant_id", per_version=per_version, version=version)
    )
    connection.execute(text(_RETIRE.format(ids=of_rest)), parameters)
    connection.execute(text(_INSERT_REST.format(data=release.status_data)), parameters)
    account_counts.count_again(
        connection,
        "rest_of_scope",
        score_set_id=score_set_id,
        annotation_type=annotation_type,
        per_version=per_version,
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
    written = f"""
        SELECT status.id, status.variant_id, status.annotation_type, planned.score_set_id
          FROM variant_annotation_status AS status
          JOIN planned_jobs AS planned ON planned.job_id = status.job_run_id
         WHERE status.job_run_id = :job_id AND status.current
           AND {release_of(connection).reason("status")} = ANY (:not_reached)
    """
    parameters = {"job_id": job_id, "not_reached": sorted(NOT_REACHED)}
    # Most jobs have none, and a table made for each would be most of what a state costs.
    if connection.execute(text(f"{written} LIMIT 1"), parameters).first() is None:
        return
    connection.execute(
        text(f"CREATE TEMPORARY TABLE withdrawn ON COMMIT DROP AS {written}"), parameters
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
    message = _message(status.reason, status.addition)
    return status.variant_id, MEANINGS[status.reason].status, message, category, data


@lru_cache(maxsize=1024)
def _message(reason: Reason, addition: str | None) -> str:
    """Most variants without an annotation have the same few messages."""
    return storable(explain(reason, addition))


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
