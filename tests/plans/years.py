"""A database as years of work leave it, whose largest tables have a million rows each."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Row, text

from deployments.local import filled

#: Variants of the score sets that are annotated, 18 times each; those of the last are not.
_LARGE, _SMALL, _SMALL_SCORE_SETS = 30_000, 50, 500
_NOT_ANNOTATED = 940_000
#: Each brings 22 jobs and 66 states.
_PIPELINES = 16_000
_OPEN_PIPELINES = 10
_MINUTES_BETWEEN = 30


@dataclass(frozen=True)
class Years:
    """What is asked for: score sets with many and few variants, a pipeline that runs, and one that
    ended in failure long ago."""

    url: str
    large: str
    small: str
    small_id: int
    running: Row[tuple[int, str, UUID]]
    failed: Row[tuple[int, str, UUID]]


def fill(connection: Connection) -> None:
    """In a database without rows."""
    with filled.in_bulk(connection):
        sizes = [_LARGE, *[_SMALL] * _SMALL_SCORE_SETS]
        annotated = filled.insert_score_sets(connection, "urn:mavedb:00900000-a", sizes)
        filled.insert_pipelines(connection, annotated, _PIPELINES, minutes_between=_MINUTES_BETWEEN)
        filled.insert_statuses(connection, annotated)
        filled.insert_pipelines(
            connection, annotated, _OPEN_PIPELINES, minutes_between=1, is_open=True
        )
        filled.insert_score_sets(connection, "urn:mavedb:00900001-a", [_NOT_ANNOTATED])


def find(connection: Connection, url: str) -> Years:
    def newest(status: str) -> Row[tuple[int, str, UUID]]:
        return connection.execute(
            text(
                """
                SELECT pipelines.id, urn, flow_run_id
                  FROM pipelines JOIN pipeline_requests ON pipeline_id = pipelines.id
                 WHERE status = :status ORDER BY pipelines.id DESC LIMIT 1
                """
            ),
            {"status": status},
        ).one()

    small = "urn:mavedb:00900000-a-77"
    small_id = connection.execute(
        text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": small}
    ).scalar_one()
    return Years(
        url,
        large="urn:mavedb:00900000-a-1",
        small=small,
        small_id=small_id,
        running=newest("running"),
        failed=newest("failed"),
    )
