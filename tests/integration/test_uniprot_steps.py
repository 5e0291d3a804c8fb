"""The two steps that ask UniProt, through the real worker, against the simulated service."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set
from tests.support import MaveDB, Submitted, wait_until

SUBMIT = "submit_uniprot_mapping_jobs_for_score_set"
POLL = "poll_uniprot_mapping_jobs_for_score_set"


@pytest.fixture(scope="module")
def uniprot_url(stack: Stack) -> str:
    return stack.simulator_urls["uniprot"]


TARGETS = {
    "BRCA1": {"protein": {"sequence_accessions": ["NP_009225.1"]}},
    "TP53": {
        "protein": {"sequence_accessions": []},
        "cdna": {"sequence_accessions": ["NM_000546.6"]},
    },
    "unknown": {"protein": {"sequence_accessions": ["NP_999999999.1"]}},
    "several": {"protein": {"sequence_accessions": ["NP_009225.1", "NP_009231.2"]}},
    "promoter": {"genomic": {"sequence_accessions": ["NC_000011.10"]}},
    "predicted": {"cdna": {"sequence_accessions": ["XM_017023182.1"]}},
}


@pytest.fixture
def mapped(mavedb: MaveDB) -> Submitted:
    """A score set of several targets, mapped before, that all have an accession of long ago."""
    urn = f"tmp:{uuid4()}"
    with mavedb.engine.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn=urn,
            title=urn,
            target_name="BRCA1",
            sequence="ATGGCT",
            sequence_type="dna",
            user="curator",
        )
    mavedb.execute("DELETE FROM target_genes WHERE scoreset_id = :id", id=score_set_id)
    for name, metadata in TARGETS.items():
        mavedb.execute(
            """
            INSERT INTO target_genes (name, category, scoreset_id, post_mapped_metadata,
                   uniprot_id_from_mapped_metadata, creation_date, modification_date)
            VALUES (:name, 'protein_coding', :id, :metadata, 'OLD', CURRENT_DATE, CURRENT_DATE)
            """,
            name=name,
            id=score_set_id,
            metadata=json.dumps(metadata),
        )
    return Submitted(score_set_id, urn, user_id, 0, "")


def accessions(mavedb: MaveDB, submitted: Submitted) -> dict[str, str | None]:
    rows = mavedb.rows(
        "SELECT name, uniprot_id_from_mapped_metadata FROM target_genes WHERE scoreset_id = :id",
        id=submitted.score_set_id,
    )
    return {row[0]: row[1] for row in rows}


def outcomes_of(job: Any) -> dict[str, str]:
    """Target's name -> what came of it, as the job's result lists it."""
    targets = job.metadata["result"]["data"]["targets"].values()
    return {target["name"]: target["outcome"] for target in targets}


FOUND = {"BRCA1": "P38398", "TP53": "P04637"}
LACKING = dict.fromkeys(["unknown", "several", "promoter", "predicted"])
LISTED = {
    "unknown": "not_found",
    "several": "several_accessions",
    "promoter": "no_accession",
    "predicted": "unsupported_accession",
}


def test_each_target_gets_its_accession_or_a_reason(
    mavedb: MaveDB, mapped: Submitted, uniprot_url: str
) -> None:
    both = mavedb.request("annotate_score_set", mapped)
    mavedb.wait_for(both)
    submitting, polling = (mavedb.jobs(both)[key] for key in (SUBMIT, POLL))
    assert (submitting.status, polling.status) == ("succeeded", "succeeded")
    assert accessions(mavedb, mapped) == FOUND | LACKING
    assert outcomes_of(polling) == {"BRCA1": "mapped", "TP53": "mapped"} | LISTED

    submitted_jobs = submitting.metadata["result"]["data"]["submitted_jobs"]
    assert polling.job_params["mapping_jobs"] == submitted_jobs
    assert [job["accession"] for job in submitted_jobs.values()] == [
        "NP_009225.1",
        "NM_000546.6",
        "NP_999999999.1",
    ]
    assert all(len(job["job_id"]) == 10 for job in submitted_jobs.values())

    with mavedb.fault(uniprot_url, "ambiguous", match="results"):
        alone = mavedb.request(POLL, mapped)
        assert mavedb.wait_for(alone) == "succeeded"
    assert accessions(mavedb, mapped) == dict.fromkeys(TARGETS)
    assert outcomes_of(mavedb.jobs(alone)[POLL]) == (
        {"BRCA1": "ambiguous", "TP53": "ambiguous"} | LISTED
    )


def test_a_job_that_takes_too_long_is_no_success_and_is_asked_after_again(
    mavedb: MaveDB, mapped: Submitted, uniprot_url: str
) -> None:
    job_of_brca1 = finished_job(uniprot_url, "RefSeq_Protein", "NP_009225.1")
    finished_job(uniprot_url, "RefSeq_Nucleotide", "NM_000546")
    finished_job(uniprot_url, "RefSeq_Protein", "NP_999999999.1")
    with mavedb.fault(uniprot_url, "unfinished", match=f"status/{job_of_brca1}"):
        polled = mavedb.run_in_prefect(POLL, mapped, env={"UNIPROT_POLLING_TIMEOUT_SECONDS": "0"})
        assert mavedb.wait_for(polled) == "failed"
    job = mavedb.jobs(polled)[POLL]
    assert (job.failure_category, job.retry_count) == ("timeout", 2)
    assert f"has not finished its job {job_of_brca1} for BRCA1 in time" in job.error_message
    assert accessions(mavedb, mapped) == FOUND | LACKING | {"BRCA1": "OLD"}

    again = mavedb.request(POLL, mapped)
    assert mavedb.wait_for(again) == "succeeded"
    assert accessions(mavedb, mapped) == FOUND | LACKING


def finished_job(uniprot_url: str, database: str, ids: str) -> str:
    """The job that the steps submit for these ids, once it is finished."""
    form = {"from": database, "to": "UniProtKB", "ids": ids}
    job_id: str = httpx.post(f"{uniprot_url}/idmapping/run", data=form).json()["jobId"]
    status = f"{uniprot_url}/idmapping/status/{job_id}"
    wait_until(lambda: httpx.get(status).status_code == 303)
    return job_id


def test_a_service_that_is_down_takes_nothing_back(
    mavedb: MaveDB, mapped: Submitted, uniprot_url: str
) -> None:
    with mavedb.fault(uniprot_url, "status", status=503):
        polled = mavedb.request(POLL, mapped)
        assert mavedb.wait_for(polled) == "failed"
    job = mavedb.jobs(polled)[POLL]
    assert (job.failure_category, job.retry_count) == ("service_unavailable", 2)
    assert set(accessions(mavedb, mapped).values()) == {"OLD"}


def test_a_job_that_fails_for_good_fails_the_step_but_not_the_other_targets(
    mavedb: MaveDB, mapped: Submitted, uniprot_url: str
) -> None:
    with mavedb.fault(uniprot_url, "limit_exceeded", match="run", times=1):
        polled = mavedb.request(POLL, mapped)
        assert mavedb.wait_for(polled) == "failed"
    job = mavedb.jobs(polled)[POLL]
    assert (job.failure_category, job.retry_count) == ("data_error", 0)
    assert "BRCA1: The mapping ended in ERROR" in job.error_message
    assert accessions(mavedb, mapped) == FOUND | LACKING | {"BRCA1": "OLD"}


def test_switched_off_nobody_is_asked(mavedb: MaveDB, mapped: Submitted) -> None:
    skipped = {
        step: mavedb.run_in_prefect(step, mapped, env={"UNIPROT_ID_MAPPING_ENABLED": "false"})
        for step in (SUBMIT, POLL)
    }
    for step, submitted in skipped.items():
        assert mavedb.wait_for(submitted) == "partial"
        job = mavedb.jobs(submitted)[step]
        assert job.status == "skipped"
        assert "UNIPROT_ID_MAPPING_ENABLED is not true." in job.error_message
    assert set(accessions(mavedb, mapped).values()) == {"OLD"}
