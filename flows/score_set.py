"""The flows that work on one score set. Each runs the plan of its own name.

A request gives only `pipeline_urn`. Started by hand, in Prefect's UI or with `prefect deployment
run`, a flow plans its own pipeline from the other parameters.
"""

from typing import Any

from prefect.client.schemas.objects import State

from flows.plan import run_plan
from mavedb_audit.hooks import audited_flow


@audited_flow
async def validate_map_annotate_score_set(
    pipeline_urn: str | None = None,
    score_set_id: int | None = None,
    updater_id: int | None = None,
    scores_file_key: str | None = None,
    counts_file_key: str | None = None,
    score_columns_metadata: dict[str, Any] | None = None,
    count_columns_metadata: dict[str, Any] | None = None,
    correlation_id: str | None = None,
) -> State[Any]:
    """Create the variants of an uploaded score set, map and annotate them."""
    return await run_plan(
        "validate_map_annotate_score_set",
        pipeline_urn,
        {
            "score_set_id": score_set_id,
            "updater_id": updater_id,
            "scores_file_key": scores_file_key,
            "counts_file_key": counts_file_key,
            "score_columns_metadata": score_columns_metadata or {},
            "count_columns_metadata": count_columns_metadata or {},
            "correlation_id": correlation_id,
        },
    )


@audited_flow
async def map_annotate_score_set(
    pipeline_urn: str | None = None,
    score_set_id: int | None = None,
    updater_id: int | None = None,
    correlation_id: str | None = None,
) -> State[Any]:
    """Map the variants of a score set again and annotate them."""
    return await run_plan(
        "map_annotate_score_set",
        pipeline_urn,
        {
            "score_set_id": score_set_id,
            "updater_id": updater_id,
            "correlation_id": correlation_id,
        },
    )


@audited_flow
async def annotate_score_set(
    pipeline_urn: str | None = None,
    score_set_id: int | None = None,
    updater_id: int | None = None,
    only_failed_variants: bool = False,
    correlation_id: str | None = None,
) -> State[Any]:
    """Annotate the mapped variants of a score set again, all or those that failed."""
    return await run_plan(
        "annotate_score_set",
        pipeline_urn,
        {
            "score_set_id": score_set_id,
            "updater_id": updater_id,
            "only_failed_variants": only_failed_variants,
            "correlation_id": correlation_id,
        },
    )


@audited_flow
async def publish_score_set(
    pipeline_urn: str | None = None,
    score_set_id: int | None = None,
    correlation_id: str | None = None,
) -> State[Any]:
    """Make a newly published score set visible in the published variants view."""
    return await run_plan(
        "publish_score_set",
        pipeline_urn,
        {"score_set_id": score_set_id, "correlation_id": correlation_id},
    )
