"""What became of a pipeline: the account of its score set's variants, or why it failed."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Engine, RowMapping, text

from deployments.local.progress import styled
from mavedb_audit.reasons import MEANINGS, Reason

_EXAMPLES_PER_REASON = 3
_DETAILS_SHOWN = 25
_NO_REASON = "-"


def show_account(
    engine: Engine, score_set_id: int, pipeline_id: int, prefect_ui_url: str, console: Console
) -> None:
    """Print how many variants have which status for which reason, with examples of each."""
    with engine.connect() as connection:
        score_set = _score_set(connection, score_set_id)
        counts = _counts(connection, score_set_id)
        examples = _examples(connection, score_set_id)
        flow_run_id = connection.execute(
            text("SELECT flow_run_id FROM pipeline_requests WHERE pipeline_id = :id"),
            {"id": pipeline_id},
        ).scalar_one()
    if counts:
        console.print(_account(counts, score_set["num_variants"]))
        _print_examples(counts, examples, console)
    console.print(
        f"Score set {score_set['urn']}: {score_set['num_variants']} variants, "
        f"processing {score_set['processing_state']}, mapping {score_set['mapping_state']}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"Prefect UI: {prefect_ui_url}", soft_wrap=True, highlight=False)
    if flow_run_id:
        address = f"{prefect_ui_url}/runs/flow-run/{flow_run_id}"
        console.print(f"Its flow run: {address}", soft_wrap=True, highlight=False)


def show_failure(engine: Engine, score_set_id: int, pipeline_id: int, console: Console) -> None:
    """Print what failed, every detail that was recorded, and what to do."""
    with engine.connect() as connection:
        failed = connection.execute(
            text(
                """
                SELECT job_function, status, failure_category, error_message
                  FROM job_runs
                 WHERE pipeline_id = :id AND status IN ('failed', 'errored')
                 ORDER BY finished_at
                """
            ),
            {"id": pipeline_id},
        ).all()
        score_set = _score_set(connection, score_set_id)
    is_users_mistake = False
    for job in failed:
        console.print(
            f"{job.job_function} failed ({job.failure_category}): {job.error_message}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        is_users_mistake |= job.failure_category == "validation_error"
    details = list((score_set["processing_errors"] or {}).get("detail", []))
    for detail in details[:_DETAILS_SHOWN]:
        console.print(f"  {detail}", markup=False, highlight=False, soft_wrap=True)
    if len(details) > _DETAILS_SHOWN:
        rest = len(details) - _DETAILS_SHOWN
        console.print(f"  and {rest} more, in scoresets.processing_errors")
    console.print(
        "Correct what is named above in the file, or in the target, and upload again."
        if is_users_mistake
        else "Mend the cause named above, then run it again. The flow run's logs say more.",
        style="bold",
    )


def _score_set(connection: Connection, score_set_id: int) -> RowMapping:
    return (
        connection.execute(
            text(
                """
                SELECT urn, num_variants, processing_state, mapping_state, processing_errors
                  FROM scoresets WHERE id = :id
                """
            ),
            {"id": score_set_id},
        )
        .mappings()
        .one()
    )


def _counts(connection: Connection, score_set_id: int) -> Sequence[Any]:
    return connection.execute(
        text(
            """
            SELECT annotation_type, version, status.status, failure_category, count(*) AS variants
              FROM variant_annotation_status AS status
              JOIN variants ON variants.id = status.variant_id
             WHERE variants.scoreset_id = :id AND status.current
             GROUP BY 1, 2, 3, 4
             ORDER BY min(status.job_run_id), 1, 2, count(*) DESC
            """
        ),
        {"id": score_set_id},
    ).all()


def _examples(connection: Connection, score_set_id: int) -> Sequence[Any]:
    return connection.execute(
        text(
            """
            SELECT annotation_type, failure_category, urn, hgvs, error_message
              FROM (
                SELECT *, row_number() OVER (
                         PARTITION BY annotation_type, failure_category ORDER BY variant_id) AS n
                  FROM (
                    SELECT DISTINCT ON (annotation_type, failure_category, variants.id)
                           status.annotation_type, status.failure_category, variants.urn,
                           coalesce(variants.hgvs_nt, variants.hgvs_pro) AS hgvs,
                           status.error_message, variants.id AS variant_id
                      FROM variant_annotation_status AS status
                      JOIN variants ON variants.id = status.variant_id
                     WHERE variants.scoreset_id = :id AND status.current
                       AND status.status <> 'success'
                  ) AS of_any_version
              ) AS numbered
             WHERE n <= :examples
             ORDER BY n
            """
        ),
        {"id": score_set_id, "examples": _EXAMPLES_PER_REASON},
    ).all()


def _account(counts: Sequence[Any], variants: int) -> Table:
    table = Table(title=f"The account of {variants} variants", title_justify="left")
    for heading in ("annotation", "version", "status"):
        table.add_column(heading, no_wrap=True)
    table.add_column("reason", overflow="fold")
    table.add_column("variants", justify="right", min_width=len("variants"))
    before = None
    for row in counts:
        annotation = (row.annotation_type, row.version)
        if before not in (None, annotation):
            table.add_section()
        shown = ("", "") if annotation == before else (row.annotation_type, row.version or "")
        table.add_row(
            *shown, styled(row.status), row.failure_category or _NO_REASON, str(row.variants)
        )
        before = annotation
    return table


def _print_examples(counts: Sequence[Any], examples: Sequence[Any], console: Console) -> None:
    """For each reason what it means, what to do, and some variants with the service's words."""
    endings = [
        (row.annotation_type, row.failure_category) for row in counts if row.failure_category
    ]
    for ending in dict.fromkeys(endings):
        annotation_type, reason = ending
        meaning = MEANINGS[Reason(reason)]
        console.print(f"\n{annotation_type}, {reason}", style="bold")
        console.print(f"{meaning.sentence} {meaning.hint}")
        for example in examples:
            if (example.annotation_type, example.failure_category) == ending:
                words = example.error_message.removeprefix(meaning.sentence).strip()
                console.print(
                    f"  {example.urn}  {example.hgvs}  {words}".rstrip(),
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
    console.print()
