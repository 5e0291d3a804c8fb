"""Ask Ensembl's VEP for the functional consequences of a score set's variants."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Row, text

from mavedb_audit.accounts import Status
from mavedb_audit.failures import FailureCategory
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.services import Service
from mavedb_audit.settings import Settings, settings
from mavedb_audit.steps import Step
from tasks.clients import vep
from tasks.clients.ensembl import Manners
from tasks.clients.vep_answers import Absent, Consequence, Malformed, NotAnswered, Outcome, Refused
from tasks.vrs import expression

_VARIANTS_WITH_MAPPING = f"""
    SELECT variant.id AS variant_id, mapped.id AS mapped_variant_id, mapped.post_mapped,
           mapped.vep_functional_consequence, mapped.vep_access_date
      FROM variants AS variant
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE {IN_SCOPE}
     ORDER BY variant.id
"""

#: Only what VEP gave: where it has nothing or did not answer, what it gave earlier stays.
_WRITE_CONSEQUENCES = """
    UPDATE mapped_variants AS mapped
       SET vep_functional_consequence = found.term, vep_access_date = CURRENT_DATE,
           modification_date = CURRENT_DATE
      FROM unnest(CAST(:mapped_variant_ids AS integer[]), CAST(:terms AS text[]))
           AS found (mapped_variant_id, term)
     WHERE mapped.id = found.mapped_variant_id
       AND (mapped.vep_functional_consequence, mapped.vep_access_date)
           IS DISTINCT FROM (found.term, CURRENT_DATE)
"""


@audited_task
def populate_vep_for_score_set(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Ask about each distinct HGVS once, and give its consequence to every variant that has it.

    When Ensembl stops answering halfway, what it gave is kept, and the step fails.
    """
    with step.reading() as connection:
        variants = connection.execute(text(_VARIANTS_WITH_MAPPING), step.scope).all()
    hgvs_of = {variant.variant_id: askable(variant.post_mapped) for variant in variants}
    distinct = {hgvs for hgvs in hgvs_of.values() if not isinstance(hgvs, Reason)}
    answers = _ask(step, settings(), distinct) if distinct else vep.Answers(None, {})
    with step.finishing() as finish:
        found = [
            (variant.mapped_variant_id, outcome.term)
            for variant in variants
            if isinstance(outcome := answers.outcomes.get(hgvs_of[variant.variant_id]), Consequence)
        ]
        finish.connection.execute(
            text(_WRITE_CONSEQUENCES),
            {
                "mapped_variant_ids": [mapped_variant_id for mapped_variant_id, _ in found],
                "terms": [term for _, term in found],
            },
        )
        finish.account(
            AnnotationType.VEP_FUNCTIONAL_CONSEQUENCE,
            answers.release,
            (
                _status(variant, hgvs_of[variant.variant_id], answers.outcomes)
                for variant in variants
            ),
        )
        finish.failure = answers.gave_up


def _ask(step: Step, config: Settings, distinct: Collection[str]) -> vep.Answers:
    with step.asking(Service.ENSEMBL):
        return vep.consequences(
            config.ensembl_api_url, distinct, manners_of(config), on_progress=step.progress
        )


def askable(post_mapped: Mapping[str, Any] | None) -> str | Reason:
    """The HGVS that VEP is asked about, or why it cannot be asked about this variant."""
    hgvs = expression(post_mapped)
    if isinstance(hgvs, Reason):
        return hgvs
    if ":p." in hgvs:
        return Reason.PROTEIN_LEVEL_ALLELE
    if ".[" in hgvs:
        return Reason.MULTI_VARIANT
    return hgvs


def manners_of(config: Settings) -> Manners:
    return Manners(
        requests_per_second=config.ensembl_requests_per_second,
        concurrent_requests=config.ensembl_concurrent_requests,
        connect_timeout=config.ensembl_connect_timeout_seconds,
        vep_timeout=config.vep_read_timeout_seconds,
        recoder_timeout=config.variant_recoder_read_timeout_seconds,
        retry_delays=tuple(config.ensembl_retry_delays_seconds),
    )


def _status(variant: Row[Any], hgvs: str | Reason, outcomes: Mapping[str, Outcome]) -> Status:
    if isinstance(hgvs, Reason):
        return Status(variant.variant_id, hgvs)
    match outcomes[hgvs]:
        case Consequence() as found:
            return Status(variant.variant_id, data=_success_data(hgvs, found))
        case Refused(category=category, message=said):
            mismatch = category is FailureCategory.REFERENCE_MISMATCH
            reason = Reason.REFERENCE_MISMATCH if mismatch else Reason.INVALID_HGVS
            return Status(variant.variant_id, reason, said)
        case Malformed(message=said):
            return Status(variant.variant_id, Reason.MALFORMED_RECORD, said)
        case NotAnswered(error=error):
            return Status(variant.variant_id, Reason.ENSEMBL_FAILED, str(error))
        case Absent(message=said):
            said += _what_stays(variant)
            return Status(variant.variant_id, Reason.NOT_IN_SOURCE, said)


def _success_data(hgvs: str, found: Consequence) -> dict[str, Any]:
    data: dict[str, Any] = {
        "vep_functional_consequence": found.term,
        "source": found.source,
        "hgvs": hgvs,
    }
    if found.transcript_id is not None:
        data["transcript_id"] = found.transcript_id
    if found.recoded_as:
        data["recoded_as"] = found.recoded_as
    return data


def _what_stays(variant: Row[Any]) -> str:
    if variant.vep_functional_consequence is None:
        return ""
    return (
        f" What it gave on {variant.vep_access_date or 'an unknown day'} stays:"
        f" {variant.vep_functional_consequence}."
    )
