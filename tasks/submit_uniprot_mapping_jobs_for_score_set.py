"""Submit a mapping job at UniProt for each of a score set's target genes."""

from mavedb_audit.errors import StepError
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import POLL_UNIPROT
from mavedb_audit.recorder.plans import set_job_params
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from tasks.clients import uniprot
from tasks.uniprot_targets import Target, Unasked, queries, read_targets


@audited_task
def submit_uniprot_mapping_jobs_for_score_set(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Submit one job for each distinct accession, and hand the jobs on to the step that polls.

    A query that UniProt refuses is listed, and the other targets go on; the step fails when it
    refuses all of them.
    """
    config = settings()
    if not config.uniprot_id_mapping_enabled:
        step.skip("UNIPROT_ID_MAPPING_ENABLED is not true.")
        return
    with step.reading() as connection:
        targets = read_targets(connection, score_set_id)
    asked = queries(targets)
    with (
        step.asking(Service.UNIPROT),
        uniprot.connection(
            config.uniprot_api_url,
            connect_timeout=config.uniprot_connect_timeout_seconds,
            read_timeout=config.uniprot_read_timeout_seconds,
        ) as client,
    ):
        answers: dict[uniprot.Query, str | uniprot.Failed] = {}
        for query in asked:
            step.progress(len(answers), len(asked), f"Asking UniProt for {query.accession}")
            answers[query] = uniprot.submit(client, query)
    refusals = [answer for answer in answers.values() if isinstance(answer, uniprot.Failed)]
    with step.finishing() as finish:
        jobs = {
            str(target.target_gene_id): {
                "job_id": _job_id(answers[target.query]),
                "accession": target.query.accession,
            }
            for target in targets
            if isinstance(target.query, uniprot.Query)
        }
        finish.data["submitted_jobs"] = jobs
        finish.data["targets"] = {
            str(target.target_gene_id): _described(target, answers) for target in targets
        }
        pipeline_id = finish.job.pipeline_id
        if pipeline_id is not None:
            set_job_params(finish.connection, pipeline_id, POLL_UNIPROT.key, {"mapping_jobs": jobs})
        if refusals and len(refusals) == len(answers):
            finish.failure = StepError(
                f"UniProt: refused every query: {refusals[0].message}", refusals[0].category
            )


def _job_id(answer: str | uniprot.Failed) -> str | None:
    return None if isinstance(answer, uniprot.Failed) else answer


def _described(target: Target, answers: dict[uniprot.Query, str | uniprot.Failed]) -> object:
    if isinstance(target.query, Unasked):
        return target.described(target.query.outcome, reason=target.query.reason)
    answer = answers[target.query]
    if isinstance(answer, uniprot.Failed):
        return target.described("refused", reason=answer.message)
    return target.described("submitted", job_id=answer)
