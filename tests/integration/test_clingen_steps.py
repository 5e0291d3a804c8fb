"""The steps that ask ClinGen about alleles, through the worker: what each variant ends up with."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import Row

from tests.support import MaveDB, Submitted, brca1

VARIANTS = 150
TRANSCRIPT = "NM_007294.4"
HGVS = "populate_mapped_hgvs_for_score_set"
TRANSLATIONS = "populate_variant_translations_for_score_set"
UNKNOWN, UNANSWERED = "CA9999999999", "CA8888888888"

CURRENT = """
    SELECT variants.id AS variant_id, mapped.id AS mapped_variant_id, mapped.clingen_allele_id,
           mapped.hgvs_assay_level, mapped.hgvs_g, mapped.hgvs_c, mapped.hgvs_p,
           status.status, status.failure_category, status.error_message, status.success_data
      FROM variants
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id AND mapped.current
      JOIN variant_annotation_status AS status ON status.variant_id = variants.id
       AND status.current AND status.annotation_type = :type
     WHERE variants.scoreset_id = :id ORDER BY variants.id
"""


@dataclass(frozen=True)
class Annotated:
    """A score set after the main job, and the requests that it made to the registry."""

    submitted: Submitted
    requests: list[str]


@pytest.fixture(scope="module")
def annotated(mavedb: MaveDB) -> Annotated:
    log = f"{mavedb.stack.clingen_url}/simulator/requests"
    httpx.delete(log).raise_for_status()
    submitted = mavedb.submit(*brca1(VARIANTS, seed=20))
    mavedb.wait_for(submitted)
    requests = [f"{r['method']} {r['path']}?{r['query']}" for r in httpx.get(log).json()]
    jobs = mavedb.jobs(submitted)
    assert {jobs[key].status for key in ("warm_clingen_cache", HGVS, TRANSLATIONS)} == {"succeeded"}
    return Annotated(submitted, requests)


def current(mavedb: MaveDB, submitted: Submitted, annotation_type: str) -> dict[int, Row[Any]]:
    """One row for each variant: its values, and what is said of them."""
    rows = mavedb.rows(CURRENT, id=submitted.score_set_id, type=annotation_type)
    assert len(rows) == VARIANTS
    by_id = {row.variant_id: row for row in rows}
    assert len(by_id) == VARIANTS
    return by_id


def pairs(mavedb: MaveDB) -> set[tuple[str, str]]:
    rows = mavedb.rows("SELECT aa_clingen_id, nt_clingen_id FROM variant_translations")
    return {(row.aa_clingen_id, row.nt_clingen_id) for row in rows}


def said(row: Row[Any]) -> tuple[str, str | None]:
    return row.status, row.failure_category


def values(row: Row[Any]) -> tuple[str | None, ...]:
    return row.hgvs_assay_level, row.hgvs_g, row.hgvs_c, row.hgvs_p


def test_every_allele_is_asked_about_once_for_all_steps(
    mavedb: MaveDB, annotated: Annotated
) -> None:
    assert annotated.requests.count("POST /alleles?file=id") == 2, "own alleles, then proteins"
    assert not any(request.startswith("GET") for request in annotated.requests)
    warmed = mavedb.jobs(annotated.submitted)["warm_clingen_cache"].metadata["result"]["data"]
    distinct = mavedb.value(
        """
        SELECT count(DISTINCT clingen_allele_id) FROM mapped_variants AS mapped
          JOIN variants ON variants.id = variant_id WHERE scoreset_id = :id AND mapped.current
        """,
        id=annotated.submitted.score_set_id,
    )
    assert warmed == {"known": distinct, "unknown": 0, "failed": 0}


def test_mapped_variants_get_their_hgvs_on_all_levels(mavedb: MaveDB, annotated: Annotated) -> None:
    rows = current(mavedb, annotated.submitted, "mapped_hgvs").values()

    done = [row for row in rows if row.status == "success"]
    assert len(done) > 120
    for row in done:
        assert row.hgvs_assay_level.startswith(f"{TRANSCRIPT}:c.")
        assert row.hgvs_c == row.hgvs_assay_level
        assert row.hgvs_g.startswith("NC_0000")
        assert ":g." in row.hgvs_g
        assert row.success_data["hgvs_g"] == row.hgvs_g
    coding = [row for row in done if row.hgvs_p]
    assert len(coding) > 100
    assert all(row.hgvs_p.startswith("NP_007294.4:p.") for row in coding)
    others = [row for row in rows if row.status != "success"]
    assert {said(row) for row in others} == {
        ("skipped", "missing_clingen_allele_id"),
        ("skipped", "not_mapped"),
    }
    for row in others:
        assert row.clingen_allele_id is None
        assert (row.hgvs_g, row.hgvs_c, row.hgvs_p) == (None, None, None)
        assert (row.hgvs_assay_level is None) == (row.failure_category == "not_mapped")


def test_nucleotide_and_protein_alleles_are_paired(mavedb: MaveDB, annotated: Annotated) -> None:
    rows = current(mavedb, annotated.submitted, "variant_translation").values()
    known = pairs(mavedb)

    done = [row for row in rows if row.status == "success"]
    assert len(done) > 100
    for row in done:
        for protein in row.success_data["aa_clingen_ids"]:
            assert protein.startswith("PA")
            assert (protein, row.clingen_allele_id) in known
        assert row.clingen_allele_id in row.success_data["nt_clingen_ids"]
    assert any(len(row.success_data["nt_clingen_ids"]) > 1 for row in done), "synonyms are found"
    without = [row for row in rows if row.failure_category == "no_coding_transcript"]
    assert without
    paired = {nucleotide for _, nucleotide in known}
    assert all(row.clingen_allele_id not in paired for row in without)


def set_mapped(mavedb: MaveDB, row: Row[Any], **columns: Any) -> None:
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    sql = f"UPDATE mapped_variants SET {assignments} WHERE id = :id"
    mavedb.execute(sql, id=row.mapped_variant_id, **columns)


def test_each_odd_case_says_what_it_is(mavedb: MaveDB, annotated: Annotated) -> None:
    before = current(mavedb, annotated.submitted, "mapped_hgvs")
    translated = current(mavedb, annotated.submitted, "variant_translation")
    good = [r for i, r in before.items() if r.hgvs_p and translated[i].status == "success"]
    lost, several, unknown, protein, merged, unmapped, unanswered, stale, block, *rest = good
    protein_id = translated[protein.variant_id].success_data["aa_clingen_ids"][0]
    merged_id = f"CA{90_000_000_000 + int(merged.clingen_allele_id[2:])}"
    two_ids = f"{rest[0].clingen_allele_id},{rest[1].clingen_allele_id}"
    two_changes = json.dumps({"type": "CisPhasedBlock", "members": [{}, {}]})

    set_mapped(mavedb, unanswered, clingen_allele_id=UNANSWERED)
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=503):
        down = mavedb.request(HGVS, annotated.submitted)
        assert mavedb.wait_for(down) == "failed"
    job = mavedb.jobs(down)[HGVS]
    attempts = mavedb.value("SELECT count(*) FROM job_attempts WHERE job_id = :id", id=job.id)
    assert (job.failure_category, attempts) == ("service_unavailable", 3)
    after = current(mavedb, annotated.submitted, "mapped_hgvs")
    assert {said(row) for row in after.values()} == {("failed", "step_failed")}
    assert {i: values(row) for i, row in after.items()} == {
        i: values(row) for i, row in before.items()
    }

    set_mapped(mavedb, unanswered, hgvs_assay_level="a")
    set_mapped(mavedb, lost, clingen_allele_id=None)
    set_mapped(mavedb, several, clingen_allele_id=two_ids)
    set_mapped(mavedb, unknown, clingen_allele_id=UNKNOWN)
    set_mapped(mavedb, protein, clingen_allele_id=protein_id)
    set_mapped(mavedb, merged, clingen_allele_id=merged_id)
    set_mapped(mavedb, unmapped, clingen_allele_id=None, post_mapped=None)
    set_mapped(mavedb, stale, hgvs_g="g", hgvs_c="c", hgvs_p="p", hgvs_assay_level="a")
    set_mapped(mavedb, block, clingen_allele_id=None, post_mapped=two_changes)
    clingen = mavedb.stack.clingen_url
    with (
        mavedb.fault(clingen, "status", status=503, match=f"/allele/{UNANSWERED}"),
        mavedb.fault(clingen, "short", match="/alleles?file=id"),
    ):
        reruns = [mavedb.request(name, annotated.submitted) for name in (HGVS, TRANSLATIONS)]
        assert [mavedb.wait_for(rerun) for rerun in reruns] == ["succeeded"] * 2

    hgvs = current(mavedb, annotated.submitted, "mapped_hgvs")
    pair = current(mavedb, annotated.submitted, "variant_translation")
    for variant, of_hgvs, of_translation, kept in [
        (lost, "missing_clingen_allele_id", "missing_clingen_allele_id", ()),
        (several, "multi_variant_clingen_allele_id", None, ()),
        (unknown, "not_found", "not_found", ()),
        (protein, None, None, ("hgvs_p",)),
        (merged, None, None, ("hgvs_g", "hgvs_c", "hgvs_p")),
        (unmapped, "not_mapped", "not_mapped", ()),
        (unanswered, "clingen_api_error", "clingen_api_error", ("hgvs_g", "hgvs_c", "hgvs_p")),
        (stale, None, None, ("hgvs_g", "hgvs_c", "hgvs_p")),
        (block, "multi_variant", "multi_variant", ()),
    ]:
        now = hgvs[variant.variant_id]
        assert now.failure_category == of_hgvs
        assert pair[variant.variant_id].failure_category == of_translation
        for name in ("hgvs_g", "hgvs_c", "hgvs_p"):
            assert getattr(now, name) == (getattr(variant, name) if name in kept else None)
        has_expression = variant not in (unmapped, block)
        assert now.hgvs_assay_level == (variant.hgvs_assay_level if has_expression else None)
    assert hgvs[unanswered.variant_id].status == "failed"
    assert "503" in hgvs[unanswered.variant_id].error_message
    assert UNKNOWN in hgvs[unknown.variant_id].error_message
    assert (protein_id, protein.clingen_allele_id) in pairs(mavedb)
    assert any(nucleotide == merged_id for _, nucleotide in pairs(mavedb))
    for row in rest:
        assert values(hgvs[row.variant_id]) == values(row)
        assert said(hgvs[row.variant_id]) == said(pair[row.variant_id]) == ("success", None)
