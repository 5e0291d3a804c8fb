"""Register a score set's mapped variants at ClinGen's Allele Registry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from mavedb_audit.accounts import Status
from mavedb_audit.errors import ConfigurationError
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from tasks.clients import clingen
from tasks.vrs import expression

_VARIANTS_WITH_MAPPING = f"""
    SELECT variant.id AS variant_id, mapped.id AS mapped_variant_id, mapped.post_mapped
      FROM variants AS variant
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE {IN_SCOPE}
     ORDER BY variant.id
"""

_WRITE_ALLELE_IDS = """
    UPDATE mapped_variants AS mapped
       SET clingen_allele_id = registered.allele_id, modification_date = CURRENT_DATE
      FROM unnest(CAST(:mapped_variant_ids AS integer[]), CAST(:allele_ids AS text[]))
           AS registered (mapped_variant_id, allele_id)
     WHERE mapped.id = registered.mapped_variant_id
       AND mapped.clingen_allele_id IS DISTINCT FROM registered.allele_id
"""


@dataclass(frozen=True)
class Candidate:
    """A variant of the scope: the HGVS to register, or why there is none."""

    variant_id: int
    mapped_variant_id: int | None
    hgvs: str | Reason


@audited_task
def submit_score_set_mappings_to_car(
    step: Step,
    score_set_id: int,
    updater_id: int | None = None,
    correlation_id: str | None = None,
) -> None:
    """Register each distinct HGVS once, and give its allele id to every variant that has it."""
    config = settings()
    if not config.clin_gen_submission_enabled:
        step.skip("CLIN_GEN_SUBMISSION_ENABLED is not true.")
        return
    endpoint, account = _endpoint_and_account()
    with step.reading() as connection:
        candidates = list(_candidates(connection, step.scope))
    distinct = sorted({c.hgvs for c in candidates if not isinstance(c.hgvs, Reason)})
    with step.asking(Service.CLINGEN_ALLELE_REGISTRY):
        step.progress(0, len(distinct), f"Registering {len(distinct):,} distinct HGVS at ClinGen")
        outcomes = clingen.register(
            endpoint,
            account,
            distinct,
            batch_size=config.car_submission_batch_size,
            connect_timeout=config.clingen_connect_timeout_seconds,
            read_timeout=config.clingen_read_timeout_seconds,
            on_batch=lambda done: step.progress(
                done, len(distinct), f"Registered {done:,} of {len(distinct):,} HGVS at ClinGen"
            ),
        )
    with step.finishing() as finish:
        asked = [
            (c.mapped_variant_id, _allele_id(outcomes[c.hgvs]))
            for c in candidates
            if not isinstance(c.hgvs, Reason)
            and not isinstance(outcomes[c.hgvs], clingen.Unreadable)
        ]
        finish.connection.execute(
            text(_WRITE_ALLELE_IDS),
            {
                "mapped_variant_ids": [mapped_variant_id for mapped_variant_id, _ in asked],
                "allele_ids": [allele_id for _, allele_id in asked],
            },
        )
        finish.account(
            AnnotationType.CLINGEN_ALLELE_ID, None, (_status(c, outcomes) for c in candidates)
        )


def _endpoint_and_account() -> tuple[str, clingen.Account]:
    config = settings()
    if config.car_submission_endpoint is None:
        raise ConfigurationError(
            "CAR_SUBMISSION_ENDPOINT is not set: it is the base URL of ClinGen's Allele Registry"
        )
    if config.genboree_account_name is None or config.genboree_account_password is None:
        raise ConfigurationError(
            "GENBOREE_ACCOUNT_NAME and GENBOREE_ACCOUNT_PASSWORD are not both set: registering"
            " alleles needs them"
        )
    account = clingen.Account(config.genboree_account_name, config.genboree_account_password)
    return config.car_submission_endpoint, account


def _candidates(connection: Connection, scope: Mapping[str, int]) -> Iterator[Candidate]:
    rows = connection.execution_options(yield_per=5_000).execute(
        text(_VARIANTS_WITH_MAPPING), scope
    )
    for row in rows:
        yield Candidate(row.variant_id, row.mapped_variant_id, expression(row.post_mapped))


def _allele_id(outcome: clingen.Outcome) -> str | None:
    """What the registry says now: a variant that it rejects keeps no id of before."""
    return outcome.allele_id if isinstance(outcome, clingen.Registered) else None


def _status(candidate: Candidate, outcomes: Mapping[str, clingen.Outcome]) -> Status:
    if isinstance(candidate.hgvs, Reason):
        return Status(candidate.variant_id, candidate.hgvs)
    match outcomes[candidate.hgvs]:
        case clingen.Registered(allele_id=allele_id):
            return Status(candidate.variant_id, data={"clingen_allele_id": allele_id})
        case clingen.Rejected(message=rejection):
            return Status(candidate.variant_id, Reason.REJECTED_BY_CLINGEN, rejection)
        case clingen.Unreadable(message=said):
            return Status(candidate.variant_id, Reason.MALFORMED_RECORD, said)
