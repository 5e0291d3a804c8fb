"""Link a score set's variants to what one release of ClinVar says of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import MEANINGS, AnnotationStatus, Reason
from mavedb_audit.release import release_of
from mavedb_audit.scopes import IN_SCOPE
from mavedb_audit.steps import Step
from tasks.clients.clingen_alleles import Answer, LookupFailed
from tasks.clients.clinvar_archive import Release
from tasks.clingen_lookup import look_up
from tasks.clinvar.loading import load_unless_there, store
from tasks.clinvar.store import Incomplete, Record

_VARIANTS_WITH_ALLELE_ID = f"""
    SELECT variant.id AS variant_id, mapped.id AS mapped_variant_id, mapped.clingen_allele_id
      FROM variants AS variant
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE {IN_SCOPE}
     ORDER BY variant.id
"""

#: What is certain of each mapped variant: the allele that it is to be linked to, or none.
_CREATE_FINDINGS = """
    CREATE TEMPORARY TABLE clinvar_finding (mapped_variant_id integer, db_identifier text)
        ON COMMIT DROP
"""
_CREATE_RECORDS = """
    CREATE TEMPORARY TABLE clinvar_record (
        db_identifier text, gene_symbol text, clinical_significance text,
        clinical_review_status text, clinvar_variation_id text
    ) ON COMMIT DROP
"""

#: Controls are shared by score sets, and older MaveDB has no unique constraint on them.
_SERIALISE = "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"

#: {controls}, {columns}, {values} and {known_columns} differ between MaveDB's releases.
_UPDATE_CONTROLS = """
    UPDATE {controls} AS known
       SET ({columns}, modification_date) = ROW({values}, CURRENT_DATE)
      FROM clinvar_record AS record
     WHERE known.db_name = 'ClinVar' AND known.db_version = :version
       AND known.db_identifier = record.db_identifier
       AND ({known_columns}) IS DISTINCT FROM ({values})
"""
_INSERT_CONTROLS = """
    INSERT INTO {controls} (db_name, db_identifier, db_version, {columns}, creation_date,
                            modification_date)
    SELECT 'ClinVar', record.db_identifier, CAST(:version AS varchar), {values}, CURRENT_DATE,
           CURRENT_DATE
      FROM clinvar_record AS record
     WHERE NOT EXISTS (
           SELECT FROM {controls} AS known
            WHERE known.db_name = 'ClinVar' AND known.db_version = :version
              AND known.db_identifier = record.db_identifier)
"""

#: Of controls that were once inserted twice, the first.
_FIND_CONTROLS = """
    CREATE TEMPORARY TABLE clinvar_link ON COMMIT DROP AS
    SELECT finding.mapped_variant_id, min(known.id) AS control_id
      FROM clinvar_finding AS finding
      LEFT JOIN {controls} AS known
        ON known.db_name = 'ClinVar' AND known.db_version = :version
       AND known.db_identifier = finding.db_identifier
     GROUP BY finding.mapped_variant_id
"""

_UNLINK = """
    DELETE FROM mapped_variants_clinical_controls AS link
     USING clinvar_link AS wanted, {controls} AS known
     WHERE link.mapped_variant_id = wanted.mapped_variant_id
       AND link.clinical_control_id = known.id
       AND known.db_name = 'ClinVar' AND known.db_version = :version
       AND known.id IS DISTINCT FROM wanted.control_id
"""

_LINK = """
    INSERT INTO mapped_variants_clinical_controls (mapped_variant_id, clinical_control_id)
    SELECT wanted.mapped_variant_id, wanted.control_id
      FROM clinvar_link AS wanted
      JOIN mapped_variants AS mapped ON mapped.id = wanted.mapped_variant_id AND mapped.current
     WHERE wanted.control_id IS NOT NULL
        ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Finding:
    """What the release says of one variant of the scope, or why it says nothing."""

    variant_id: int
    mapped_variant_id: int | None
    said: Record | Reason
    addition: str | None = None


@audited_task
def refresh_clinvar_controls(
    step: Step,
    score_set_id: int,
    year: int,
    month: int,
    correlation_id: str | None = None,
) -> None:
    """Only this score set's variants, and of their links only this release's, are touched."""
    release = Release(year, month)
    with step.reading() as connection:
        variants = connection.execute(text(_VARIANTS_WITH_ALLELE_ID), step.scope).all()
    caids = {v.clingen_allele_id for v in variants if why_not_askable(v.clingen_allele_id) is None}
    answers: Mapping[str, Answer] = {}
    records: Mapping[int, Record | Incomplete] = {}
    if caids:
        load_unless_there(step, release)
        answers = look_up(step, caids)
        records = store().read(str(release), clinvar_allele_ids(answers.values()))
    findings = [
        Finding(v.variant_id, v.mapped_variant_id, *said_of(v.clingen_allele_id, answers, records))
        for v in variants
    ]
    with step.finishing() as finish:
        _write(finish.connection, release.version, findings)
        finish.account(AnnotationType.CLINVAR_CONTROL, release.version, map(_status, findings))


def why_not_askable(clingen_allele_id: str | None) -> Reason | None:
    """Why ClinVar has no allele of this id, whatever ClinGen says; None: it may have one."""
    if not clingen_allele_id:
        return Reason.NO_CLINGEN_ALLELE_ID
    if "," in clingen_allele_id:
        return Reason.MULTI_VARIANT_CLINGEN_ALLELE_ID
    if clingen_allele_id.startswith("PA"):
        return Reason.PROTEIN_LEVEL_ALLELE
    return None


def clinvar_allele_ids(answers: Iterable[Answer]) -> set[int]:
    alleles = (answer for answer in answers if answer and not isinstance(answer, LookupFailed))
    return {a.clinvar_allele_id for a in alleles if a.clinvar_allele_id is not None}


def said_of(
    clingen_allele_id: str | None,
    answers: Mapping[str, Answer],
    records: Mapping[int, Record | Incomplete],
) -> tuple[Record | Reason, str | None]:
    """What the release says of the allele; or why it says nothing, and what there is to add."""
    reason = why_not_askable(clingen_allele_id)
    if reason is not None or clingen_allele_id is None:
        return reason or Reason.NO_CLINGEN_ALLELE_ID, None
    answer = answers[clingen_allele_id]
    if isinstance(answer, LookupFailed):
        return Reason.CLINGEN_LOOKUP_FAILED, answer.message
    if answer is None:
        return Reason.NO_CLINVAR_ALLELE, f"The registry does not know {clingen_allele_id}."
    if answer.clinvar_allele_id is None:
        return Reason.NO_CLINVAR_ALLELE, None
    match records.get(answer.clinvar_allele_id):
        case Record() as record:
            return record, None
        case Incomplete(allele_id=allele_id):
            return Reason.MALFORMED_RECORD, f"The row of AlleleID {allele_id} broke off."
        case None:
            return Reason.NOT_IN_CLINVAR_RELEASE, f"Its AlleleID is {answer.clinvar_allele_id}."


def _write(connection: Connection, version: str, findings: Sequence[Finding]) -> None:
    """Bring controls and links to what was found. Where nothing is certain, links stay."""
    table = release_of(connection)
    columns = ["gene_symbol", "clinical_significance", "clinical_review_status"]
    if table.has_variation_id:
        columns.append("clinvar_variation_id")
    names = {
        "controls": table.controls_table,
        "columns": ", ".join(columns),
        "values": ", ".join(f"record.{column}" for column in columns),
        "known_columns": ", ".join(f"known.{column}" for column in columns),
    }
    records = {f.said.allele_id: f.said for f in findings if isinstance(f.said, Record)}
    connection.execute(text(_CREATE_FINDINGS))
    connection.execute(text(_CREATE_RECORDS))
    copy_rows(connection, "clinvar_finding", _certain(findings))
    copy_rows(
        connection,
        "clinvar_record",
        (
            (
                str(record.allele_id),
                record.gene_symbol,
                record.clinical_significance,
                record.review_status,
                record.variation_id,
            )
            for record in records.values()
        ),
    )
    connection.execute(text("ANALYZE clinvar_finding, clinvar_record"))
    connection.execute(text(_SERIALISE), {"key": f"mavedb_audit:clinical_controls:{version}"})
    for statement in (_UPDATE_CONTROLS, _INSERT_CONTROLS, _FIND_CONTROLS, _UNLINK, _LINK):
        connection.execute(text(statement.format(**names)), {"version": version})


def _certain(findings: Iterable[Finding]) -> Iterable[tuple[int, str | None]]:
    for finding in findings:
        if finding.mapped_variant_id is None:
            continue
        if isinstance(finding.said, Record):
            yield finding.mapped_variant_id, str(finding.said.allele_id)
        elif MEANINGS[finding.said].status is not AnnotationStatus.FAILED:
            yield finding.mapped_variant_id, None


def _status(finding: Finding) -> Status:
    if isinstance(finding.said, Reason):
        return Status(finding.variant_id, finding.said, finding.addition)
    data = {"clinvar_allele_id": str(finding.said.allele_id)}
    if finding.said.variation_id is not None:
        data["clinvar_variation_id"] = str(finding.said.variation_id)
    return Status(finding.variant_id, data=data)
