"""Read all of a score set's ClinGen alleles once, for the steps that need what is known of them."""

from sqlalchemy import text

from mavedb_audit.hooks import audited_task
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.steps import Step
from tasks.clients.clingen_alleles import LookupFailed
from tasks.clingen_lookup import look_up

#: An id with a comma stands for several alleles; few variants of old score sets have such.
_ALLELE_IDS = f"""
    SELECT DISTINCT mapped.clingen_allele_id
      FROM variants AS variant
      JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE {IN_SCOPE} AND mapped.clingen_allele_id <> ''
       AND position(',' IN mapped.clingen_allele_id) = 0
"""


@audited_task
def warm_clingen_cache(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Its result counts the alleles that are known, unknown and not answered about."""
    with step.reading() as connection:
        allele_ids = connection.execute(text(_ALLELE_IDS), step.scope).scalars().all()
    answers = look_up(step, allele_ids).values()
    with step.finishing() as finish:
        unknown = sum(answer is None for answer in answers)
        failed = sum(isinstance(answer, LookupFailed) for answer in answers)
        finish.data |= {
            "known": len(answers) - unknown - failed,
            "unknown": unknown,
            "failed": failed,
        }
