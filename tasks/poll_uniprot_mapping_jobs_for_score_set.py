"""Wait for a score set's mapping jobs at UniProt, and keep what they found."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from mavedb_audit.errors import ServiceError, StepError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from mavedb_audit.hooks import audited_task
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from tasks.clients import uniprot
from tasks.uniprot_targets import Target, Unasked, queries, read_targets

_WRITE_ACCESSIONS = """
    UPDATE target_genes AS target
       SET uniprot_id_from_mapped_metadata = found.accession, modification_date = CURRENT_DATE
      FROM unnest(CAST(:target_gene_ids AS integer[]), CAST(:accessions AS text[]))
           AS found (target_gene_id, accession)
     WHERE target.id = found.target_gene_id AND target.scoreset_id = :score_set_id
       AND target.uniprot_id_from_mapped_metadata IS DISTINCT FROM found.accession
"""

Outcome = uniprot.Outcome | Unasked


@audited_task
def poll_uniprot_mapping_jobs_for_score_set(
    step: Step,
    score_set_id: int,
    mapping_jobs: Mapping[str, Any],  # as planned; the submitting step fills it in
    correlation_id: str | None = None,
) -> None:
    """Give each target the one UniProt accession that its reference sequence maps to, or none.

    A target without a submitted job, or mapped to another accession since, is submitted here. What
    is found is kept though another target's job fails; that fails the step in the end.
    """
    config = settings()
    if not config.uniprot_id_mapping_enabled:
        step.skip("UNIPROT_ID_MAPPING_ENABLED is not true.")
        return
    with step.reading() as connection:
        targets = read_targets(connection, score_set_id)
    asked = queries(targets)
    # The task was called with what was planned when its flow began, before anything was submitted.
    job_ids = _job_ids(step.attempt.job.params.get("mapping_jobs") or {})
    with (
        step.asking(Service.UNIPROT),
        uniprot.connection(
            config.uniprot_api_url,
            connect_timeout=config.uniprot_connect_timeout_seconds,
            read_timeout=config.uniprot_read_timeout_seconds,
        ) as client,
    ):
        answers = uniprot.collect(
            client,
            {query: job_ids.get(query.accession) for query in asked},
            patience_seconds=config.uniprot_polling_timeout_seconds,
            on_wait=lambda done: step.progress(
                done, len(asked), f"Waiting for UniProt to map {len(asked) - done} accessions"
            ),
        )
    outcomes = [(target, _outcome(target, answers)) for target in targets]
    with step.finishing() as finish:
        _write(finish.connection, score_set_id, outcomes)
        finish.data["targets"] = {
            str(target.target_gene_id): _described(target, outcome) for target, outcome in outcomes
        }
        finish.failure = _failure(outcomes)


def _job_ids(mapping_jobs: Mapping[str, Any]) -> dict[str, str | None]:
    """Accession -> the id of its job, from {target gene id: {job_id, accession}}."""
    return {job["accession"]: job["job_id"] for job in mapping_jobs.values()}


def _outcome(target: Target, answers: Mapping[uniprot.Query, uniprot.Outcome]) -> Outcome:
    return target.query if isinstance(target.query, Unasked) else answers[target.query]


def _write(
    connection: Connection, score_set_id: int, outcomes: Sequence[tuple[Target, Outcome]]
) -> None:
    """Write what UniProt said. Where it said nothing, what it said before stays."""
    accessions = {
        target.target_gene_id: (
            outcome.uniprot_accession if isinstance(outcome, uniprot.Mapped) else None
        )
        for target, outcome in outcomes
        if not isinstance(outcome, uniprot.Failed | uniprot.Unfinished)
    }
    connection.execute(
        text(_WRITE_ACCESSIONS),
        {
            "target_gene_ids": list(accessions.keys()),
            "accessions": list(accessions.values()),
            "score_set_id": score_set_id,
        },
    )


def _failure(outcomes: Iterable[tuple[Target, Outcome]]) -> StepError | None:
    """The step's failure: one worth another try, if there is any."""
    failures = [error for target, outcome in outcomes if (error := _error(target, outcome))]
    return min(failures, key=lambda error: error.category not in RETRYABLE, default=None)


def _error(target: Target, outcome: Outcome) -> StepError | None:
    match outcome:
        case uniprot.Unfinished(job_id=job_id):
            return ServiceError(
                uniprot.SERVICE,
                f"has not finished its job {job_id} for {target.name} in time. The step can be run"
                " again: the job goes on there.",
                FailureCategory.TIMEOUT,
            )
        case uniprot.Failed(category=category, message=message):
            return ServiceError(uniprot.SERVICE, f"{target.name}: {message}", category)
        case _:
            return None


def _described(target: Target, outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case uniprot.Mapped(uniprot_accession=accession, release=release):
            return target.described("mapped", uniprot_accession=accession, release=release)
        case uniprot.NotFound(withdrawn=withdrawn):
            instead = f" but the withdrawn {', '.join(withdrawn)}" if withdrawn else ""
            return target.described("not_found", reason=f"UniProt has no entry for it{instead}.")
        case uniprot.Ambiguous(uniprot_accessions=accessions):
            return target.described(
                "ambiguous",
                reason=f"UniProt has several entries for it: {', '.join(accessions)}.",
            )
        case uniprot.Failed(message=message):
            return target.described("failed", reason=message)
        case uniprot.Unfinished(job_id=job_id):
            return target.described("unfinished", job_id=job_id)
        case Unasked(outcome=word, reason=reason):
            return target.described(word, reason=reason)
