"""Submit a published score set's mapped variants to ClinGen's Linked Data Hub."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sqlalchemy import Row, text

from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.services import Service
from mavedb_audit.settings import Settings, settings
from mavedb_audit.steps import Step
from tasks.clients import clingen, ldh
from tasks.vrs import expression

_SCORE_SET = "SELECT urn, private, short_description FROM scoresets WHERE id = :score_set_id"

_VARIANTS = f"SELECT id FROM variants AS variant WHERE {IN_SCOPE} ORDER BY id"

#: Read anew for each batch, since sending them all takes long: what was replaced falls out.
_BATCH = """
    SELECT variant.id, variant.urn, variant.data #> '{score_data,score}' AS score,
           mapped.pre_mapped, mapped.post_mapped, mapped.mapping_api_version
      FROM variants AS variant
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE variant.id = ANY (:variant_ids)
     ORDER BY variant.id
"""

#: So many batches that fail one after another: the hub is down, or takes nothing of ours.
_MOST_FAILURES_IN_A_ROW = 3
#: The longest Retry-After that is obeyed between two batches.
_LONGEST_WAIT_SECONDS = 60.0


@audited_task
def submit_score_set_mappings_to_ldh(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Send the variants in batches, and write what became of each before the next one is sent.

    So the account is true however the step ends: of what it did not get to, it says so. A batch
    that fails fails its own variants only. The step fails when the hub took none, or seems to be
    down. Another attempt sends all again, which the hub takes as the same entities.
    """
    config = settings()
    if not config.clin_gen_submission_enabled:
        step.skip("CLIN_GEN_SUBMISSION_ENABLED is not true.")
        return
    tenant, account = _tenant_and_account(config)
    with step.reading() as connection:
        score_set = connection.execute(text(_SCORE_SET), {"score_set_id": score_set_id}).one()
        variant_ids = list(connection.execute(text(_VARIANTS), step.scope).scalars())
    counts: Counter[str] = Counter()
    failure: ServiceError | None = None
    taken, failures_in_a_row = False, 0
    with (
        step.asking(Service.LINKED_DATA_HUB),
        ldh.connection(
            config.genboree_url,
            tenant,
            account,
            connect_timeout=config.clingen_connect_timeout_seconds,
            read_timeout=config.clingen_read_timeout_seconds,
        ) as hub,
    ):
        for start in range(0, len(variant_ids), ldh.BATCH_SIZE):
            step.progress(start, len(variant_ids), "Sending variants to ClinGen's Linked Data Hub")
            batch = _read_batch(
                step, variant_ids[start : start + ldh.BATCH_SIZE], score_set, config
            )
            to_send = [item for item in batch.values() if isinstance(item, ldh.MappedVariant)]
            outcome = hub.submit(to_send) if to_send else None
            with step.writing() as connection:
                counts.update(
                    accounts.write(
                        connection,
                        **step.scope,
                        annotation_type=AnnotationType.LDH_SUBMISSION,
                        version=None,
                        statuses=_statuses(batch, outcome),
                    )
                )
            match outcome:
                case ldh.Queued():
                    taken, failures_in_a_row = True, 0
                case ldh.BatchFailed(error=failure):
                    failures_in_a_row += 1
                    if failures_in_a_row == _MOST_FAILURES_IN_A_ROW:
                        raise failure
                    time.sleep(min(failure.retry_after_seconds or 0, _LONGEST_WAIT_SECONDS))
    if failure is not None and not taken:
        raise failure
    with step.finishing() as finish:
        finish.data[AnnotationType.LDH_SUBMISSION] = dict(counts)


def _tenant_and_account(config: Settings) -> tuple[str, clingen.Account]:
    if not config.clin_gen_tenant:
        raise ConfigurationError(
            "CLIN_GEN_TENANT is not set: it names the tenant of ClinGen's Linked Data Hub that"
            " submissions go to, such as dev-clingen for tests"
        )
    if config.genboree_account_name is None or config.genboree_account_password is None:
        raise ConfigurationError(
            "GENBOREE_ACCOUNT_NAME and GENBOREE_ACCOUNT_PASSWORD are not both set: submitting to"
            " the Linked Data Hub needs them"
        )
    account = clingen.Account(config.genboree_account_name, config.genboree_account_password)
    return config.clin_gen_tenant, account


def _read_batch(
    step: Step, variant_ids: Sequence[int], score_set: Row[Any], config: Settings
) -> dict[int, ldh.MappedVariant | Reason]:
    """Variant id -> what is sent of it, or why nothing is."""
    if score_set.private:
        return dict.fromkeys(variant_ids, Reason.NOT_PUBLISHED)
    with step.reading() as connection:
        rows = connection.execute(text(_BATCH), {"variant_ids": variant_ids}).all()
    return {row.id: _item(row, score_set, config.mave_frontend_url) for row in rows}


def _item(row: Row[Any], score_set: Row[Any], frontend_url: str) -> ldh.MappedVariant | Reason:
    hgvs = expression(row.post_mapped)
    if isinstance(hgvs, Reason):
        return hgvs
    return ldh.MappedVariant(
        urn=row.urn,
        page=f"{frontend_url}/score-sets/{quote(score_set.urn, safe='')}"
        f"?variant={quote(row.urn, safe='')}",
        hgvs=hgvs,
        score=row.score,
        score_set_description=score_set.short_description,
        pre_mapped=row.pre_mapped,
        post_mapped=row.post_mapped,
        mapping_api_version=row.mapping_api_version,
    )


def _statuses(
    batch: Mapping[int, ldh.MappedVariant | Reason], outcome: ldh.Queued | ldh.BatchFailed | None
) -> Iterator[Status]:
    for variant_id, item in batch.items():
        match outcome:
            case _ if isinstance(item, Reason):
                yield Status(variant_id, item)
            case ldh.BatchFailed(error=error):
                addition = f"{error.category}: {error}"
                yield Status(variant_id, Reason.LDH_BATCH_FAILED, addition)
            case ldh.Queued(message_ids=message_ids):
                # The receipt is the whole batch's, and promises no more than a place in a queue.
                data = {"state": "queued", "message_ids": list(message_ids)}
                yield Status(variant_id, data=data)
