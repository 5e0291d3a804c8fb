"""The last parts of what tests/support_defects.py begins: a score set's links to other sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, text

from mavedb_audit.trigger import request_pipeline
from tests.support import MaveDB, Submitted, brca1, insert_brca1, wait_until
from tests.support_defects import LINK, MAP, Account, Ended, ending
from tests.support_mapper import mapper_at_work
from tests.support_processes import attempts, kill, running_attempt

#: Of the one ClinGen's registry says that there is none, about the other it says nothing.
UNKNOWN, UNANSWERED = "CA9999999998", "CA8888888887"


@dataclass(frozen=True)
class Odd:
    """What became of variants with odd allele ids, of two score sets with the same variants, one
    of which nobody asked about, and what is there twice."""

    variants: Mapping[str, Row[Any]]
    bystanders_rows: int
    doubled: Sequence[Row[Any]]


def ask_about_odd_alleles(mavedb: MaveDB, submitted: Submitted) -> Odd:
    """gnomAD and ClinVar are asked. Two score sets bring the same records of gnomAD at once."""
    twin, bystander = (copy_of(mavedb, submitted) for _ in range(2))
    linked = mavedb.rows(
        """
        SELECT DISTINCT mapped.id, clingen_allele_id FROM mapped_variants AS mapped
          JOIN variants ON variants.id = variant_id
          JOIN gnomad_variants_mapped_variants AS link ON link.mapped_variant_id = mapped.id
         WHERE scoreset_id = :id AND mapped.current ORDER BY 1 LIMIT 3
        """,
        id=submitted.score_set_id,
    )
    odd = {
        "padded": (linked[0].id, f"CA000{linked[0].clingen_allele_id[2:]}"),
        "unanswered": (linked[1].id, UNANSWERED),
        "unknown": (linked[2].id, UNKNOWN),
    }
    for mapped_variant_id, allele_id in odd.values():
        mavedb.execute(
            "UPDATE mapped_variants SET clingen_allele_id = :allele_id WHERE id = :id",
            id=mapped_variant_id,
            allele_id=allele_id,
        )
    mavedb.execute(
        """
        DELETE FROM gnomad_variants_mapped_variants
         WHERE mapped_variant_id IN (SELECT mapped.id FROM mapped_variants AS mapped
                                       JOIN variants ON variants.id = variant_id
                                      WHERE scoreset_id = :id)
        """,
        id=submitted.score_set_id,
    )
    mavedb.execute(
        """
        DELETE FROM gnomad_variants AS known
         WHERE NOT EXISTS (SELECT FROM gnomad_variants_mapped_variants
                            WHERE gnomad_variant_id = known.id)
        """
    )
    clingen = mavedb.stack.clingen_url
    with (
        mavedb.fault(clingen, "status", status=429, match=f"/allele/{UNANSWERED}"),
        mavedb.fault(clingen, "short", match="file=id"),
    ):
        asked = [refresh_clinvar(mavedb, submitted, 2015, 2)]
        with mavedb.engine.begin() as holder:
            holder.execute(text("LOCK TABLE gnomad_variants IN SHARE ROW EXCLUSIVE MODE"))
            asked += [mavedb.request(LINK, each) for each in (submitted, twin)]
            wait_until(lambda: mavedb.value(HELD_UP) == 2)
        assert [mavedb.wait_for(each) for each in asked] == ["succeeded"] * 3
    return Odd(
        {name: mavedb.rows(ODD, id=mapped_id)[0] for name, (mapped_id, _) in odd.items()},
        mavedb.value(ROWS_OF, id=bystander.score_set_id),
        mavedb.rows(DOUBLED, ids=[submitted.score_set_id, twin.score_set_id]),
    )


#: How many steps wait to bring records of gnomAD.
HELD_UP = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND wait_event_type = 'Lock' AND query LIKE '%gnomad_variants%'
"""
#: What gnomAD and ClinVar said of one mapped variant.
ODD = """
    SELECT gnomad.status AS gnomad_status, gnomad.failure_category AS gnomad_reason,
           clinvar.status AS clinvar_status, clinvar.failure_category AS clinvar_reason,
           clinvar.error_message,
           EXISTS (SELECT FROM gnomad_variants_mapped_variants
                    WHERE mapped_variant_id = mapped.id) AS is_linked
      FROM mapped_variants AS mapped
      JOIN variant_annotation_status AS gnomad ON gnomad.variant_id = mapped.variant_id
       AND gnomad.annotation_type = 'gnomad_allele_frequency' AND gnomad.current
      JOIN variant_annotation_status AS clinvar ON clinvar.variant_id = mapped.variant_id
       AND clinvar.annotation_type = 'clinvar_control' AND clinvar.current
       AND clinvar.version = '02_2015'
     WHERE mapped.id = :id
"""
#: How many statuses and links a score set's variants have.
ROWS_OF = """
    SELECT count(status.id) + count(link.mapped_variant_id)
      FROM variants JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id
      LEFT JOIN variant_annotation_status AS status ON status.variant_id = variants.id
      LEFT JOIN gnomad_variants_mapped_variants AS link ON link.mapped_variant_id = mapped.id
     WHERE scoreset_id = :id
"""
#: What is there twice and should be once.
DOUBLED = """
    SELECT 'status', variant_id || annotation_type || coalesce(version, '')
      FROM variant_annotation_status JOIN variants ON variants.id = variant_id
     WHERE current AND scoreset_id = ANY (:ids)
     GROUP BY variant_id, annotation_type, version HAVING count(*) > 1
     UNION ALL
    SELECT 'mapping', variants.urn
      FROM mapped_variants AS mapped JOIN variants ON variants.id = variant_id
     WHERE mapped.current AND scoreset_id = ANY (:ids)
     GROUP BY variants.urn HAVING count(*) > 1
     UNION ALL
    SELECT 'gnomAD record', db_identifier FROM gnomad_variants
     GROUP BY db_name, db_identifier, db_version HAVING count(*) > 1
     UNION ALL
    SELECT 'control', db_identifier FROM clinical_controls WHERE db_version = '02_2015'
     GROUP BY db_name, db_identifier, db_version HAVING count(*) > 1
"""


def refresh_clinvar(mavedb: MaveDB, submitted: Submitted, year: int, month: int) -> Submitted:
    params = {"score_set_id": submitted.score_set_id, "year": year, "month": month}
    with mavedb.engine.begin() as connection:
        planned = request_pipeline(
            connection, "refresh_clinvar_controls", params, submitted.user_id, None
        )
    return replace(submitted, pipeline_id=planned.pipeline_id, pipeline_urn=planned.pipeline_urn)


@dataclass(frozen=True)
class Replaced:
    """The account and links of the score set before a new upload, and what was kept of it; that
    upload at its end, what recovery did to it, and the attempts of its mapping."""

    account_before: Account
    links_before: Mapping[str, int]
    upload: Ended
    kept: Account
    kept_versions_of_gnomad: set[str]
    actions: Sequence[str]
    attempts: Sequence[Row[Any]]


def replace_variants(mavedb: MaveDB, submitted: Submitted) -> Replaced:
    """The process of the new upload's mapping is killed."""
    account, links = mavedb.account(submitted), mavedb.rows(LINKS, id=submitted.score_set_id)
    with mapper_at_work(mavedb, submitted.score_set_urn) as mapper:
        newer = mavedb.submit(*brca1(10, seed=52), urn=submitted.score_set_urn)
        mapper.wait_until_it_has_read()
        kill(running_attempt(mavedb, newer, MAP).process_id)
        upload = ending(mavedb, newer)
    kept = mavedb.rows(
        """
        SELECT annotation_type, status, failure_category, sum(variants) AS variants,
               array_agg(version) AS versions
          FROM replaced_variant_statuses WHERE replaced_by_job_id = :id GROUP BY 1, 2, 3
        """,
        id=upload.jobs["create_variants_for_score_set"].id,
    )
    actions = mavedb.rows(
        "SELECT action FROM operator_actions WHERE pipeline_id = :id", id=newer.pipeline_id
    )
    return Replaced(
        account,
        {row.source: row.links for row in links},
        upload,
        {(row[0], row[1], row[2]): row.variants for row in kept},
        {version for row in kept if row[0].startswith("gnomad") for version in row.versions},
        [row.action for row in actions],
        attempts(mavedb, newer, MAP),
    )


LINKS = """
    SELECT link.source, count(*) AS links
      FROM (SELECT 'gnomAD' AS source, mapped_variant_id FROM gnomad_variants_mapped_variants
             UNION ALL
            SELECT 'ClinVar', mapped_variant_id FROM mapped_variants_clinical_controls) AS link
      JOIN mapped_variants AS mapped ON mapped.id = link.mapped_variant_id
      JOIN variants AS variant ON variant.id = mapped.variant_id
     WHERE variant.scoreset_id = :id GROUP BY 1
"""


def copy_of(mavedb: MaveDB, submitted: Submitted) -> Submitted:
    """Another score set with the same variants, mapped and registered, and with nothing else."""
    with mavedb.engine.begin() as connection:
        urn, score_set_id, user_id = insert_brca1(connection)
        connection.execute(
            text(COPY), {"id": submitted.score_set_id, "copy": score_set_id, "urn": urn}
        )
    return Submitted(score_set_id, urn, user_id, 0, "")


COPY = """
    WITH copied AS (
        INSERT INTO variants (urn, hgvs_nt, hgvs_splice, hgvs_pro, data, scoreset_id, creation_date,
                              modification_date)
        SELECT :urn || '#' || split_part(urn, '#', 2), hgvs_nt, hgvs_splice, hgvs_pro, data, :copy,
               creation_date, modification_date
          FROM variants WHERE scoreset_id = :id
        RETURNING id, urn
    )
    INSERT INTO mapped_variants (variant_id, pre_mapped, post_mapped, vrs_version,
                                 modification_date, mapped_date, mapping_api_version, current,
                                 clingen_allele_id)
    SELECT copied.id, pre_mapped, post_mapped, vrs_version, mapped.modification_date, mapped_date,
           mapping_api_version, true, clingen_allele_id
      FROM mapped_variants AS mapped JOIN variants ON variants.id = mapped.variant_id
      JOIN copied ON split_part(copied.urn, '#', 2) = split_part(variants.urn, '#', 2)
     WHERE variants.scoreset_id = :id AND mapped.current
"""
