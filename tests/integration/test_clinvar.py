"""ClinVar's releases in the real worker: loaded once, and every variant's status as they say."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from deployments.local.simulators.clinvar_alleles import clinvar_allele_id
from deployments.local.simulators.clinvar_releases import Assertion, assertions
from mavedb_audit.clinvar import ANNOTATED_RELEASES
from mavedb_audit.trigger import request_pipeline
from tests.support import MaveDB, Submitted, brca1, wait_until

STEP = "refresh_clinvar_controls"
#: In none of the plans, so that nobody else has loaded them.
EXTRA, BROKEN = (2017, 6), (2019, 6)


@pytest.fixture(scope="module")
def pair(mavedb: MaveDB) -> tuple[Submitted, Submitted]:
    """Two annotated score sets that share most of their alleles, and ran side by side."""
    first, second = (mavedb.submit(*brca1(n, seed=31)) for n in (90, 60))
    assert [mavedb.wait_for(submitted) for submitted in (first, second)] == ["succeeded"] * 2
    return first, second


def refresh(mavedb: MaveDB, submitted: Submitted, release: tuple[int, int]) -> Submitted:
    with mavedb.engine.begin() as connection:
        year, month = release
        params = {"score_set_id": submitted.score_set_id, "year": year, "month": month}
        planned = request_pipeline(connection, STEP, params, submitted.user_id, None)
    return Submitted(
        submitted.score_set_id,
        submitted.score_set_urn,
        submitted.user_id,
        planned.pipeline_id,
        planned.pipeline_urn,
    )


def file_requests(mavedb: MaveDB) -> Counter[tuple[int, int]]:
    """How often the files of releases were asked for, in the places where they lie."""
    url = mavedb.stack.simulator_urls["clinvar"]
    counts: Counter[tuple[int, int]] = Counter()
    for request in httpx.get(f"{url}/simulator/requests").json():
        path = request["path"]
        if not path.endswith(".txt.gz"):  # somebody looked whether the archive is there
            continue
        year, month = path.removesuffix(".txt.gz")[-7:].split("-")
        is_place = (f"/archive/{year}/" in path) == (int(year) != datetime.now(UTC).year)
        counts[int(year), int(month)] += request["method"] == "GET" and is_place
    return counts


def variants_of(mavedb: MaveDB, submitted: Submitted) -> list[Any]:
    return mavedb.rows(
        """
        SELECT variant.id AS variant_id, mapped.id AS mapped_variant_id, mapped.clingen_allele_id
          FROM variants AS variant
          LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
         WHERE variant.scoreset_id = :id ORDER BY variant.id
        """,
        id=submitted.score_set_id,
    )


def statuses(mavedb: MaveDB, submitted: Submitted, release: tuple[int, int]) -> dict[int, Any]:
    rows = mavedb.rows(
        """
        SELECT status.* FROM variant_annotation_status AS status
          JOIN variants ON variants.id = status.variant_id
         WHERE scoreset_id = :id AND annotation_type = 'clinvar_control' AND current
           AND version = :version
        """,
        id=submitted.score_set_id,
        version=version_of(release),
    )
    assert len(rows) == len({row.variant_id for row in rows})
    return {row.variant_id: row for row in rows}


def links(
    mavedb: MaveDB, submitted: Submitted, release: tuple[int, int]
) -> dict[int, tuple[str, ...]]:
    """What the controls say that each variant is linked to, by variant."""
    rows = mavedb.rows(
        """
        SELECT variant.id, control.db_identifier, control.gene_symbol,
               control.clinical_significance, control.clinical_review_status
          FROM mapped_variants_clinical_controls AS link
          JOIN clinical_controls AS control ON control.id = link.clinical_control_id
          JOIN mapped_variants AS mapped ON mapped.id = link.mapped_variant_id
          JOIN variants AS variant ON variant.id = mapped.variant_id
         WHERE variant.scoreset_id = :id AND control.db_name = 'ClinVar'
           AND control.db_version = :version
        """,
        id=submitted.score_set_id,
        version=version_of(release),
    )
    assert len(rows) == len({row.id for row in rows})
    return {row.id: tuple(row)[1:] for row in rows}


def version_of(release: tuple[int, int]) -> str:
    return f"{release[1]:02d}_{release[0]}"


def expected(caid: str | None, said: Mapping[int, Assertion]) -> tuple[str, str | None]:
    """The status and reason of a variant, by the simulators' rules."""
    if caid is None:
        return "skipped", "missing_clingen_allele_id"
    allele_id = clinvar_allele_id(caid)
    if allele_id is None:
        return "skipped", "no_associated_clinvar_allele_id"
    if allele_id not in said:
        return "skipped", "no_clinvar_variant_data"
    return "success", None


@pytest.mark.parametrize("release", ANNOTATED_RELEASES)
def test_each_release_says_of_each_variant_what_is_in_its_file(
    mavedb: MaveDB, pair: tuple[Submitted, Submitted], release: tuple[int, int]
) -> None:
    said = {assertion.allele_id: assertion for assertion in assertions(*release)}
    for submitted in pair:
        variants = variants_of(mavedb, submitted)
        found = statuses(mavedb, submitted, release)
        assert {n: (row.status, row.failure_category) for n, row in found.items()} == {
            v.variant_id: expected(v.clingen_allele_id, said) for v in variants
        }
        linked = {
            v.variant_id: said[clinvar_allele_id(v.clingen_allele_id)]
            for v in variants
            if found[v.variant_id].status == "success"
        }
        assert len(linked) > 3
        assert links(mavedb, submitted, release) == {
            variant_id: (
                str(a.allele_id),
                a.gene_symbol,
                a.clinical_significance,
                a.review_status,
            )
            for variant_id, a in linked.items()
        }
        assert {n: found[n].success_data for n in linked} == {
            variant_id: {
                "clinvar_allele_id": str(a.allele_id),
                "clinvar_variation_id": str(a.variation_id),
            }
            for variant_id, a in linked.items()
        }
    assert all(row.job_run_id is not None for row in found.values())


def test_every_release_was_downloaded_once_for_all_score_sets(
    mavedb: MaveDB, pair: tuple[Submitted, Submitted]
) -> None:
    jobs = mavedb.jobs(pair[0])
    assert [key for key in jobs if key.startswith(STEP)] == [
        f"{STEP}_{year}{month:02d}" for year, month in ANNOTATED_RELEASES
    ]
    counts = file_requests(mavedb)
    assert {release: counts[release] for release in ANNOTATED_RELEASES} == dict.fromkeys(
        ANNOTATED_RELEASES, 1
    )
    doubled = mavedb.rows(
        """
        SELECT db_identifier FROM clinical_controls WHERE db_name = 'ClinVar'
         GROUP BY db_identifier, db_version HAVING count(*) > 1
        """
    )
    assert doubled == []


@pytest.fixture(scope="module")
def extra(mavedb: MaveDB, pair: tuple[Submitted, Submitted]) -> list[Submitted]:
    """The two, side by side, on a release whose file is cut off at first."""
    name = f"{EXTRA[0]}/variant_summary_{EXTRA[0]}-{EXTRA[1]:02d}"
    url = mavedb.stack.simulator_urls["clinvar"]
    with mavedb.fault(url, "truncate", match=name, times=1):
        asked = [refresh(mavedb, submitted, EXTRA) for submitted in pair]
        assert [mavedb.wait_for(submitted) for submitted in asked] == ["succeeded"] * 2
    return asked


def test_two_score_sets_wait_for_one_download_that_is_cut_off_at_first(
    mavedb: MaveDB, extra: list[Submitted]
) -> None:
    assert file_requests(mavedb)[EXTRA] == 2
    attempts = mavedb.rows(
        """
        SELECT attempt.failure_category
          FROM job_attempts AS attempt JOIN job_runs AS job ON job.id = attempt.job_id
         WHERE pipeline_id = ANY (:pipelines) AND attempt.outcome = 'failed'
        """,
        pipelines=[submitted.pipeline_id for submitted in extra],
    )
    assert [row.failure_category for row in attempts] == ["network_error"]
    said = {assertion.allele_id: assertion for assertion in assertions(*EXTRA)}
    for submitted in extra:
        found = statuses(mavedb, submitted, EXTRA)
        assert {n: (row.status, row.failure_category) for n, row in found.items()} == {
            v.variant_id: expected(v.clingen_allele_id, said)
            for v in variants_of(mavedb, submitted)
        }
        assert len(links(mavedb, submitted, EXTRA)) > 3


@dataclass(frozen=True)
class Tampered:
    """What was changed behind the step's back before it ran again.

    `linked` are variants by what became of their ClinGen id; `astray` had a link too many.
    """

    status: str
    linked: Mapping[str, int]
    astray: int
    links_before: Mapping[int, tuple[str, ...]]


@pytest.fixture(scope="module")
def tampered(mavedb: MaveDB, extra: list[Submitted]) -> Iterator[Tampered]:
    first = extra[0]
    links_before = links(mavedb, first, EXTRA)
    variants = {v.variant_id: v for v in variants_of(mavedb, first)}
    astray = next(n for n in variants if n not in links_before)
    caids = {
        "none": None,
        "several": "CA1,CA2",
        "protein": "PA123456",
        "unknown": "CA0",
        "unreadable": "CA-none",
    }
    linked = dict(zip(caids, links_before, strict=False))
    # A link to another allele, and one of another release.
    mavedb.execute(
        """
        INSERT INTO mapped_variants_clinical_controls (mapped_variant_id, clinical_control_id)
        SELECT :mapped_variant_id, min(id) FROM clinical_controls
         WHERE db_version IN (:version, '01_2020') GROUP BY db_version
        """,
        mapped_variant_id=variants[astray].mapped_variant_id,
        version=version_of(EXTRA),
    )
    # Controls that are there twice, as MaveDB has some, and say something else than the release.
    mavedb.execute(
        """
        INSERT INTO clinical_controls (gene_symbol, clinical_significance, clinical_review_status,
                                       db_name, db_identifier, db_version, creation_date,
                                       modification_date)
        SELECT gene_symbol, clinical_significance, clinical_review_status, db_name, db_identifier,
               db_version, creation_date, modification_date
          FROM clinical_controls WHERE db_version = :version
        """,
        version=version_of(EXTRA),
    )
    mavedb.execute(
        "UPDATE clinical_controls SET clinical_significance = 'wrong' WHERE db_version = :version",
        version=version_of(EXTRA),
    )
    set_caids(mavedb, {linked[name]: caid for name, caid in caids.items()})
    status = mavedb.wait_for(refresh(mavedb, first, EXTRA))
    yield Tampered(status, linked, astray, links_before)
    set_caids(mavedb, {n: variants[n].clingen_allele_id for n in linked.values()})


def set_caids(mavedb: MaveDB, caids: Mapping[int, str | None]) -> None:
    mavedb.execute(
        """
        UPDATE mapped_variants SET clingen_allele_id = given.caid
          FROM unnest(CAST(:ids AS integer[]), CAST(:caids AS text[])) AS given (id, caid)
         WHERE variant_id = given.id
        """,
        ids=list(caids.keys()),
        caids=list(caids.values()),
    )


@pytest.mark.parametrize(
    ("name", "status", "reason", "says"),
    [
        ("none", "skipped", "missing_clingen_allele_id", "has no ClinGen allele id"),
        ("several", "skipped", "multi_variant_clingen_allele_id", "several"),
        ("protein", "skipped", "protein_level_allele", "protein level"),
        ("unknown", "skipped", "no_associated_clinvar_allele_id", "does not know CA0"),
        ("unreadable", "failed", "clingen_api_error", "CA-none"),
    ],
)
def test_a_variant_whose_allele_is_another_one_now_gets_its_own_status(
    mavedb: MaveDB,
    pair: tuple[Submitted, Submitted],
    tampered: Tampered,
    name: str,
    status: str,
    reason: str,
    says: str,
) -> None:
    found = statuses(mavedb, pair[0], EXTRA)[tampered.linked[name]]
    assert (found.status, found.failure_category) == (status, reason)
    assert says in found.error_message


def test_links_are_brought_to_what_is_true_and_a_failed_look_up_takes_none_away(
    mavedb: MaveDB, pair: tuple[Submitted, Submitted], tampered: Tampered
) -> None:
    assert tampered.status == "succeeded"
    gone = {n for name, n in tampered.linked.items() if name != "unreadable"}
    uncertain = tampered.linked["unreadable"]
    now = links(mavedb, pair[0], EXTRA)
    assert now.keys() == tampered.links_before.keys() - gone
    assert {n: link for n, link in now.items() if n != uncertain} == {
        n: link for n, link in tampered.links_before.items() if n not in gone | {uncertain}
    }
    assert now[uncertain][0] == tampered.links_before[uncertain][0]
    assert tampered.astray in links(mavedb, pair[0], (2020, 1)), "another release's links stay"


def test_a_release_that_cannot_be_loaded_is_not_an_absence(
    mavedb: MaveDB, pair: tuple[Submitted, Submitted]
) -> None:
    # The simulated archive publishes a month's release in the month after it.
    this_month = (datetime.now(UTC).year, datetime.now(UTC).month)
    with mavedb.fault(mavedb.stack.simulator_urls["clinvar"], "status", match="2019-06"):
        asked = [refresh(mavedb, pair[0], BROKEN), refresh(mavedb, pair[1], this_month)]
        assert [mavedb.wait_for(submitted) for submitted in asked] == ["failed"] * 2

    unavailable, unknown = (mavedb.jobs(submitted)[STEP] for submitted in asked)
    assert unavailable.failure_category == "service_unavailable"
    assert unavailable.retry_count == 2
    assert (unknown.failure_category, unknown.retry_count) == ("data_error", 0)
    for submitted, release, says in [
        (pair[0], BROKEN, "HTTP 503"),
        (pair[1], this_month, "there is no release"),
    ]:
        found = statuses(mavedb, submitted, release).values()
        assert len(found) == len(variants_of(mavedb, submitted))
        assert {(row.status, row.failure_category) for row in found} == {("failed", "step_failed")}
        assert all(says in row.error_message for row in found)


def test_the_newest_release_is_loaded_by_its_own_deployment(mavedb: MaveDB) -> None:
    deployment = mavedb.prefect("GET", "deployments/name/load_clinvar_release/mavedb")
    assert [s["schedule"]["cron"] for s in deployment["schedules"]] == ["0 6 8 * *"]
    newest = datetime.now(UTC).replace(day=1) - timedelta(days=1)
    name = f"{newest.year}-{newest.month:02d}"

    run = mavedb.prefect("POST", f"deployments/{deployment['id']}/create_flow_run", {})

    result = wait_until(lambda: result_of(mavedb, run["id"]))
    said = list(assertions(newest.year, newest.month))
    assert result == {
        "release": name,
        "rows": sum(len(a.assemblies) for a in said),
        "unusable_rows": 0,
        "alleles": len(said),
    }
    assert file_requests(mavedb)[newest.year, newest.month] == 1
    assert (mavedb.stack.state / "clinvar" / f"variant_summary_{name}.parquet").is_file()


def result_of(mavedb: MaveDB, flow_run_id: str) -> Any:
    """What the flow run's load ended with, once it has ended."""
    rows = mavedb.rows(
        """
        SELECT job.metadata -> 'result' -> 'data' AS data
          FROM job_runs AS job JOIN pipelines AS pipeline ON pipeline.id = job.pipeline_id
         WHERE pipeline.urn = :urn AND job_function = 'load_clinvar_release'
           AND job.status = 'succeeded'
        """,
        urn=f"urn:mavedb:pipeline-{flow_run_id}",
    )
    return rows[0].data if rows else None
