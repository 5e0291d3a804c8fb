"""What the recorder still takes of a pipeline whose variants a newer upload has replaced."""

import pytest
from sqlalchemy import text

from mavedb_audit.recorder import plans
from mavedb_audit.recorder.attempts import AttemptLostError, NotStartable
from tests.support_recorder import CAR, GNOMAD, Pipeline

CREATE = "create_variants_for_score_set"


def upload(pipeline: Pipeline, outcome: str | None) -> None:
    """Another pipeline's creation of variants, tried once; without an outcome it still runs."""
    with pipeline.engine.begin() as connection:
        names = ("updater_id", "scores_file_key", "counts_file_key")
        metadata = ("score_columns_metadata", "count_columns_metadata")
        newer = plans.plan_pipeline(
            connection,
            CREATE,
            {"score_set_id": pipeline.score_set_id, **dict.fromkeys([*names, *metadata])},
            user_id=None,
            correlation_id=None,
        )
        connection.execute(
            text(
                """
                INSERT INTO job_attempts (job_id, attempt, run_count, host, process_id, outcome,
                                          finished_at)
                SELECT job_id, 1, 1, 'here', 1, CAST(:outcome AS text),
                       CASE WHEN CAST(:outcome AS text) IS NOT NULL THEN now() END
                  FROM planned_jobs WHERE pipeline_id = :id AND job_key = :create
                """
            ),
            {"outcome": outcome, "id": newer.pipeline_id, "create": CREATE},
        )


def statuses_of_variants(pipeline: Pipeline) -> list[tuple[object, ...]]:
    return pipeline.rows("SELECT count(*) FROM variant_annotation_status")


def test_an_attempt_under_way_writes_nothing_and_no_other_one_begins(pipeline: Pipeline) -> None:
    pipeline.open()
    attempt = pipeline.begin(CAR)
    upload(pipeline, "succeeded")
    for end in (pipeline.finish, pipeline.fail):
        with pytest.raises(AttemptLostError, match="Superseded by urn:mavedb:pipeline-"):
            end(attempt)
    again = pipeline.begin(CAR, run_count=2)
    assert isinstance(again, NotStartable)
    assert "Superseded by urn:mavedb:pipeline-" in again.failure.message
    assert isinstance(pipeline.begin(GNOMAD), NotStartable)
    assert (pipeline.statuses[CAR], pipeline.statuses[GNOMAD]) == ("cancelled", "skipped")
    assert statuses_of_variants(pipeline) == [(0,)]


def test_an_end_that_its_flow_run_brings_leaves_the_newer_variants_alone(
    pipeline: Pipeline,
) -> None:
    pipeline.open()
    upload(pipeline, "succeeded")
    pipeline.flow("CANCELLED")
    assert {pipeline.statuses[key] for key in (CAR, GNOMAD)} == {"cancelled"}
    assert statuses_of_variants(pipeline) == [(0,)]


@pytest.mark.parametrize("outcome", [None, "failed", "cancelled"])
def test_an_upload_that_has_not_succeeded_supersedes_nothing(
    pipeline: Pipeline, outcome: str | None
) -> None:
    upload(pipeline, outcome)
    pipeline.open()
    pipeline.finish(pipeline.begin(CAR))
    pipeline.fail(pipeline.begin(GNOMAD))
    assert (pipeline.statuses[CAR], pipeline.statuses[GNOMAD]) == ("succeeded", "failed")
    assert statuses_of_variants(pipeline) == [(3,)]
