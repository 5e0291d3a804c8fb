"""A score set that changes under its pipelines: uploaded again while they run, and published.

A new upload after they have run: test_known_defects.py (12). Two pipelines that map the same
variants: test_main_job.py, test_two_pipelines_on_one_score_set_do_not_run_a_step_at_once.
"""

import json
from typing import Any
from uuid import uuid4

import pytest

from mavedb_audit import invariants, operations
from mavedb_audit.errors import RequestError
from mavedb_audit.histories import prefect_client
from tests.support import (
    FINAL,
    MaveDB,
    Submitted,
    brca1,
    no_worker_takes_runs,
    wait_until,
)
from tests.support_mapper import answer_of_the_mapper, mapper_at_work
from tests.support_processes import attempts

CREATE = "create_variants_for_score_set"
MAP = "map_variants_for_score_set"
ALICE = {"actor": "alice", "reason": None}
#: What the retry button of Prefect's UI sends.
RETRY = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}


def score_set(mavedb: MaveDB, submitted: Submitted) -> Any:
    return mavedb.rows("SELECT * FROM scoresets WHERE id = :id", id=submitted.score_set_id)[0]


def assert_mapped_as_the_mapper_says(
    mavedb: MaveDB, submitted: Submitted, said: bytes, urns: dict[str, str] | None = None
) -> None:
    """Each variant has its own mapping, once. `urns` are new ones, by the old."""
    rows = mavedb.rows(
        """
        SELECT variant.urn, mapped.post_mapped
          FROM variants AS variant
          JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
         WHERE variant.scoreset_id = :id
        """,
        id=submitted.score_set_id,
    )
    expected = {
        (urns or {}).get(score["mavedb_id"], score["mavedb_id"]): score.get("post_mapped")
        for score in json.loads(said)["mapped_scores"]
    }
    assert len(rows) == len(expected)
    assert {row.urn: row.post_mapped for row in rows} == expected


def test_an_older_upload_never_takes_the_place_of_a_newer_one(mavedb: MaveDB) -> None:
    """One waits for its turn, and another's variants are being mapped, when the newest succeeds."""
    began = mavedb.value("SELECT clock_timestamp()")
    urn = f"tmp:{uuid4()}"
    with prefect_client() as client, mapper_at_work(mavedb, urn) as mapper:
        with no_worker_takes_runs(mavedb):
            waiting = mavedb.submit(*brca1(10, seed=41), urn=urn)
            operations.pause(client, waiting.pipeline_urn, **ALICE)
        mapping = mavedb.submit(*brca1(12, seed=42), urn=urn)
        mapper.wait_until_it_has_read()
        newest = mavedb.submit(*brca1(15, seed=43), urn=urn)
        wait_until(lambda: mavedb.jobs(newest)[CREATE].status == "succeeded")
        mapper.answer()  # of twelve variants, whose URNs are others' now
        operations.resume(client, waiting.pipeline_urn, **ALICE)
        everyone = (newest, mapping, waiting)
        ends = [mavedb.wait_for(each) for each in everyone]
        assert ends == ["succeeded", "partial", "cancelled"]

        superseded = f"Superseded by {newest.pipeline_urn}"
        assert mavedb.jobs(mapping)[CREATE].status == "succeeded"
        for submitted, key in ((mapping, MAP), (waiting, CREATE)):
            job = mavedb.jobs(submitted)[key]
            assert (job.status, job.failure_category) == ("cancelled", "cancelled")
            assert superseded in job.error_message
            assert superseded in mavedb.flow_run(submitted)["state"]["message"]
        assert [attempt.outcome for attempt in attempts(mavedb, mapping, MAP)] == ["cancelled"]
        assert attempts(mavedb, waiting, CREATE) == []

        before = mavedb.jobs(mapping)
        for verb in (operations.restart, operations.retry_unsuccessful):
            with pytest.raises(RequestError, match=superseded):
                verb(client, mapping.pipeline_urn, **ALICE)
        assert retried_in_prefect(mavedb, mapping) == "FAILED"
        assert superseded in mavedb.flow_run(mapping)["state"]["message"]
        assert mavedb.jobs(mapping) == before

    assert_mapped_as_the_mapper_says(mavedb, newest, answer_of_the_mapper(mavedb, urn))
    mavedb.assert_every_variant_is_accounted_for(newest)
    writers = mavedb.rows(
        """
        SELECT DISTINCT job.pipeline_id FROM variant_annotation_status AS status
          JOIN variants ON variants.id = status.variant_id
          LEFT JOIN job_runs AS job ON job.id = status.job_run_id
         WHERE scoreset_id = :id
        """,
        id=newest.score_set_id,
    )
    assert [row.pipeline_id for row in writers] == [newest.pipeline_id]
    now = score_set(mavedb, newest)
    assert (now.processing_state, now.processing_errors, now.num_variants) == ("success", None, 15)
    assert now.mapping_state in ("complete", "incomplete")
    assert now.mapping_errors is None
    with mavedb.engine.connect() as connection:
        assert invariants.broken(connection, began) == []


def retried_in_prefect(mavedb: MaveDB, submitted: Submitted) -> str:
    """How Prefect's own retry of the flow run ends."""
    run = mavedb.flow_run(submitted)
    mavedb.prefect("POST", f"flow_runs/{run['id']}/set_state", RETRY)

    def end() -> str | None:
        now = mavedb.flow_run(submitted)
        is_another = now["run_count"] > run["run_count"]
        return now["state_type"] if is_another and now["state_type"] in FINAL else None

    ended: str = wait_until(end)
    return ended


def test_a_publication_while_the_mapper_is_at_work_loses_nothing(mavedb: MaveDB) -> None:
    urn = f"tmp:{uuid4()}"
    with mapper_at_work(mavedb, urn) as mapper:
        submitted = mavedb.submit(*brca1(20, seed=44), urn=urn)
        mapper.wait_until_it_has_read()
        said = answer_of_the_mapper(mavedb, urn)
        renamed = publish(mavedb, submitted)
        mapper.answer()
        assert mavedb.wait_for(submitted) == "succeeded"
    assert [attempt.outcome for attempt in attempts(mavedb, submitted, MAP)] == ["succeeded"]
    assert_mapped_as_the_mapper_says(mavedb, submitted, said, renamed)
    mavedb.assert_every_variant_is_accounted_for(submitted)
    account = mavedb.account(submitted)
    assert account["vrs_mapping", "success", None] > 15
    assert ("vrs_mapping", "failed", "not_returned_by_mapper") not in account


def publish(mavedb: MaveDB, submitted: Submitted) -> dict[str, str]:
    """As MaveDB's API does, in one transaction. Gives each variant's new URN by its old one."""
    # Far from the numbers of the real score sets that other tests upload.
    published = f"urn:mavedb:{90_000_000 + submitted.score_set_id}-a-1"
    mavedb.execute(
        """
        WITH renamed AS (
            UPDATE variants SET urn = :urn || '#' || split_part(urn, '#', 2)
             WHERE scoreset_id = :id
        )
        UPDATE scoresets SET urn = :urn, private = false, published_date = CURRENT_DATE
         WHERE id = :id
        """,
        id=submitted.score_set_id,
        urn=published,
    )
    renamed = mavedb.rows(
        "SELECT urn FROM variants WHERE scoreset_id = :id", id=submitted.score_set_id
    )
    return {f"{submitted.score_set_urn}#{row.urn.rpartition('#')[2]}": row.urn for row in renamed}
