"""Link a score set's variants to their allele frequencies in gnomAD."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple

from sqlalchemy import URL, Connection, text

from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.errors import ConfigurationError
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.services import Service
from mavedb_audit.settings import Settings, settings
from mavedb_audit.steps import Step
from tasks.clients import gnomad

_VARIANTS_WITH_ALLELE_ID = f"""
    SELECT variant.id AS variant_id, mapped.id AS mapped_variant_id, mapped.clingen_allele_id
      FROM variants AS variant
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE {IN_SCOPE}
     ORDER BY variant.id
"""

_CREATE_RECORDS = """
    CREATE TEMPORARY TABLE gnomad_record (
        caid text, identifier text, allele_count integer, allele_number integer,
        allele_frequency double precision, faf95_max double precision, faf95_max_ancestry text
    ) ON COMMIT DROP
"""

#: Records are shared by score sets, so two steps could insert the same one at the same time.
_SERIALISE = "SELECT pg_advisory_xact_lock(hashtextextended('mavedb_audit:gnomad_variants', 0))"

_INSERT_RECORDS = """
    INSERT INTO gnomad_variants
           (db_name, db_identifier, db_version, allele_count, allele_number, allele_frequency,
            faf95_max, faf95_max_ancestry, creation_date, modification_date)
    SELECT DISTINCT ON (record.identifier)
           'gnomAD', record.identifier, CAST(:version AS varchar), record.allele_count,
           record.allele_number, record.allele_frequency, record.faf95_max,
           record.faf95_max_ancestry,
           CURRENT_DATE, CURRENT_DATE
      FROM gnomad_record AS record
     WHERE NOT EXISTS (
           SELECT FROM gnomad_variants AS known
            WHERE known.db_name = 'gnomAD' AND known.db_identifier = record.identifier
              AND known.db_version = :version)
     ORDER BY record.identifier
"""

#: Where gnomAD's record cannot be read nobody knows better than the link of before.
_UNLINK = f"""
    DELETE FROM gnomad_variants_mapped_variants AS link
     USING gnomad_variants AS known, mapped_variants AS mapped, variants AS variant
     WHERE link.gnomad_variant_id = known.id AND known.db_name = 'gnomAD'
       AND known.db_version = :version
       AND link.mapped_variant_id = mapped.id AND mapped.current
       AND mapped.variant_id = variant.id AND {IN_SCOPE}
       AND mapped.id <> ALL (CAST(:unreadable AS integer[]))
"""

_LINK = """
    INSERT INTO gnomad_variants_mapped_variants (mapped_variant_id, gnomad_variant_id)
    SELECT DISTINCT asked.mapped_variant_id, first_known.id
      FROM unnest(CAST(:mapped_variant_ids AS integer[]), CAST(:caids AS text[]))
           AS asked (mapped_variant_id, caid)
      JOIN mapped_variants AS mapped ON mapped.id = asked.mapped_variant_id AND mapped.current
      JOIN gnomad_record AS record ON record.caid = asked.caid
      JOIN LATERAL (
        SELECT min(known.id) AS id FROM gnomad_variants AS known
         WHERE known.db_name = 'gnomAD' AND known.db_identifier = record.identifier
           AND known.db_version = :version
      ) AS first_known ON true
"""


@audited_task
def link_gnomad_variants(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Ask gnomAD once for all of the score set's ClinGen alleles, and link what it has.

    Only this score set's variants are touched. An allele that gnomAD has several records of is
    linked to all of them.
    """
    config = settings()
    version = config.gnomad_data_version
    with step.reading() as connection:
        variants = connection.execute(text(_VARIANTS_WITH_ALLELE_ID), step.scope).all()
    caid_of = {
        variant.mapped_variant_id: caid
        for variant in variants
        if not isinstance(caid := askable(variant.clingen_allele_id), Reason)
    }
    caids = sorted(set(caid_of.values()))
    answers = _ask(step, config, caids) if caids else []
    outcomes = _outcomes(answers)
    with step.finishing() as finish:
        _link(finish.connection, step.scope, version, answers, outcomes, caid_of)
        finish.account(
            AnnotationType.GNOMAD_ALLELE_FREQUENCY,
            version,
            (_status(v.variant_id, v.clingen_allele_id, outcomes) for v in variants),
        )


def _ask(step: Step, config: Settings, caids: Sequence[str]) -> list[gnomad.Answer]:
    version = config.gnomad_data_version
    with step.asking(Service.GNOMAD):
        step.progress(0, len(caids), f"Asking gnomAD {version} for {len(caids):,} alleles")
        return gnomad.fetch(
            _database_url(config),
            version,
            caids,
            timeout=config.gnomad_query_timeout_seconds,
            on_chunk=lambda done: step.progress(
                done, len(caids), f"Asked gnomAD for {done:,} of {len(caids):,} alleles"
            ),
        )


def askable(clingen_allele_id: str | None) -> str | Reason:
    """The id that gnomAD is asked with, or why it cannot be asked about this allele."""
    if not clingen_allele_id:
        return Reason.NO_CLINGEN_ALLELE_ID
    if "," in clingen_allele_id:
        return Reason.MULTI_VARIANT_CLINGEN_ALLELE_ID
    if clingen_allele_id.startswith("PA"):
        return Reason.PROTEIN_LEVEL_ALLELE
    try:
        return gnomad.unpadded(clingen_allele_id)
    except ValueError:
        return Reason.NO_CLINGEN_ALLELE_ID


def _database_url(config: Settings) -> str | URL:
    if config.gnomad_database_url is not None:
        return config.gnomad_database_url
    if config.athena_s3_staging_dir is None:
        raise ConfigurationError(
            "ATHENA_S3_STAGING_DIR is not set: Athena needs an s3:// folder for its results"
            " (or set GNOMAD_DATABASE_URL to another database that holds the gnomAD table)"
        )
    return gnomad.athena_url(
        config.aws_region_name, config.athena_schema_name, config.athena_s3_staging_dir
    )


def _link(
    connection: Connection,
    scope: Mapping[str, int],
    version: str,
    answers: Sequence[gnomad.Answer],
    outcomes: Mapping[str, gnomad.Answer],
    caid_of: Mapping[int, str],
) -> None:
    records = [answer for answer in answers if isinstance(answer, gnomad.GnomadRecord)]
    unreadable = [
        mapped_variant_id
        for mapped_variant_id, caid in caid_of.items()
        if isinstance(outcomes.get(caid), gnomad.Malformed)
    ]
    connection.execute(text(_CREATE_RECORDS))
    copy_rows(connection, "gnomad_record", (astuple(record) for record in records))
    connection.execute(text("ANALYZE gnomad_record"))
    connection.execute(text(_SERIALISE))
    connection.execute(text(_INSERT_RECORDS), {"version": version})
    connection.execute(text(_UNLINK), {"version": version, "unreadable": unreadable, **scope})
    connection.execute(
        text(_LINK),
        {
            "version": version,
            "mapped_variant_ids": list(caid_of.keys()),
            "caids": list(caid_of.values()),
        },
    )


def _outcomes(
    answers: Sequence[gnomad.GnomadRecord | gnomad.Malformed],
) -> dict[str, gnomad.GnomadRecord | gnomad.Malformed]:
    """What is said of each allele: of several records the one seen in the most samples."""
    by_caid: dict[str, list[gnomad.GnomadRecord | gnomad.Malformed]] = defaultdict(list)
    for answer in answers:
        by_caid[answer.caid].append(answer)
    return {caid: max(found, key=_sample_size) for caid, found in by_caid.items()}


def _sample_size(answer: gnomad.GnomadRecord | gnomad.Malformed) -> int:
    return answer.allele_number if isinstance(answer, gnomad.GnomadRecord) else -1


def _status(
    variant_id: int,
    clingen_allele_id: str | None,
    outcomes: Mapping[str, gnomad.GnomadRecord | gnomad.Malformed],
) -> Status:
    caid = askable(clingen_allele_id)
    if isinstance(caid, Reason):
        return Status(variant_id, caid)
    match outcomes.get(caid):
        case gnomad.GnomadRecord(identifier=identifier):
            return Status(variant_id, data={"gnomad_db_identifier": identifier})
        case gnomad.Malformed(message=message):
            return Status(variant_id, Reason.MALFORMED_RECORD, message)
        case _:
            return Status(variant_id, Reason.NOT_IN_SOURCE)
