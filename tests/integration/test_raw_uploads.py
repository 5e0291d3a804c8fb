"""Uploaded files are recorded, verified each time they are read again, and given back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from sqlalchemy import Row, create_engine, text

from deployments.local.score_set import BRCA1_RING
from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set, upload
from mavedb_audit import operations
from mavedb_audit.errors import RequestError
from mavedb_audit.trigger import request_pipeline
from mavedb_audit.upload_store import Digest, digest_of
from tests.support import MaveDB, Submitted, brca1
from tests.support_command import run_command

CREATE = "create_variants_for_score_set"
SCORES, COUNTS = (table.encode() for table in brca1(12))
SCORE_SET = {
    "title": "A score set",
    "target_name": "BRCA1",
    "sequence": BRCA1_RING,
    "sequence_type": "dna",
}
OPERATOR = {"actor": "alice", "reason": None}


@dataclass(frozen=True)
class Uploaded:
    """Files in the store, and the pipeline that creates their variants."""

    submitted: Submitted
    scores_key: str
    counts_key: str | None


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - the server it asks
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def uploaded(mavedb: MaveDB) -> Uploaded:
    """A score set with both files, whose variants were created."""
    uploaded = create(mavedb, SCORES, COUNTS)
    assert mavedb.wait_for(uploaded.submitted) == "succeeded"
    return uploaded


def create(
    mavedb: MaveDB, scores: bytes, counts: bytes | None = None, *, said_to_be: bytes | None = None
) -> Uploaded:
    """Upload the files and ask for their variants. `said_to_be` are the scores as requested."""
    with mavedb.engine.begin() as connection:
        urn = f"tmp:{uuid4()}"
        score_set_id, user_id = insert_score_set(connection, urn=urn, user="curator", **SCORE_SET)
        store = mavedb.stack.env["UPLOAD_STORE_URL"]
        keys = upload(store, score_set_id, user_id, scores, counts)
        digests = None if said_to_be is None else {keys[0]: digest_of(said_to_be)}
        planned = request_pipeline(
            connection,
            CREATE,
            params(score_set_id, user_id, *keys),
            user_id,
            uuid4().hex,
            digests=digests,
        )
    submitted = Submitted(score_set_id, urn, user_id, planned.pipeline_id, planned.pipeline_urn)
    return Uploaded(submitted, *keys)


def params(
    score_set_id: int, user_id: int, scores_key: str, counts_key: str | None
) -> dict[str, Any]:
    return {
        "score_set_id": score_set_id,
        "updater_id": user_id,
        "scores_file_key": scores_key,
        "counts_file_key": counts_key,
        "score_columns_metadata": {},
        "count_columns_metadata": {},
    }


def recorded(mavedb: MaveDB, submitted: Submitted) -> dict[str, Row[Any]]:
    """What is recorded of the pipeline's files, by their kind."""
    rows = mavedb.rows(
        "SELECT * FROM raw_uploads WHERE pipeline_id = :id", id=submitted.pipeline_id
    )
    assert len({row.kind for row in rows}) == len(rows)
    return {row.kind: row for row in rows}


def variant_ids(mavedb: MaveDB, submitted: Submitted) -> set[int]:
    rows = mavedb.rows("SELECT id FROM variants WHERE scoreset_id = :id", id=submitted.score_set_id)
    return {row.id for row in rows}


def uploads(mavedb: MaveDB, *arguments: str) -> tuple[int, list[Mapping[str, Any]], str]:
    """What `mavedb-audit uploads` ends with, lists, and says."""
    done = run_command("uploads", *arguments, "--output", "json", **mavedb.stack.env)
    return done.returncode, json.loads(done.stdout or "[]"), done.stderr


def test_both_files_are_recorded_and_given_back(
    mavedb: MaveDB, uploaded: Uploaded, tmp_path: Path
) -> None:
    submitted = uploaded.submitted
    rows = recorded(mavedb, submitted)
    for kind, key, content in (
        ("scores", uploaded.scores_key, SCORES),
        ("counts", uploaded.counts_key, COUNTS),
    ):
        row = rows[kind]
        assert (row.key, Digest(row.sha256, row.size)) == (key, digest_of(content))
        assert (row.user_id, row.score_set_id) == (submitted.user_id, submitted.score_set_id)
        assert (row.pipeline_urn, row.recorded_by) == (submitted.pipeline_urn, "first_read")

    folder = str(tmp_path / "new")
    code, listed, _ = uploads(mavedb, submitted.score_set_urn, "--save", folder)
    assert code == 0
    assert [(each["kind"], each["sha256"]) for each in listed] == [
        ("scores", digest_of(SCORES).sha256),
        ("counts", digest_of(COUNTS).sha256),
    ]
    assert {each["username"] for each in listed} == {"curator"}
    assert (tmp_path / "new" / uploaded.scores_key).read_bytes() == SCORES
    assert (tmp_path / "new" / str(uploaded.counts_key)).read_bytes() == COUNTS

    (tmp_path / "new" / uploaded.scores_key).write_text("mine")
    (tmp_path / "new" / str(uploaded.counts_key)).unlink()
    code, _, said = uploads(mavedb, submitted.pipeline_urn, "--save", folder)
    assert (code, "is there already" in said) == (2, True)
    files = [file for file in (tmp_path / "new").rglob("*") if file.is_file()]
    assert [file.read_text() for file in files] == ["mine"]


def test_a_file_that_was_changed_or_lost_is_refused_until_it_is_back(
    mavedb: MaveDB, client: SyncPrefectClient, uploaded: Uploaded, tmp_path: Path
) -> None:
    submitted = uploaded.submitted
    before, variants = recorded(mavedb, submitted), variant_ids(mavedb, submitted)
    assert len(variants) == 12
    file = mavedb.stack.state / "uploads" / uploaded.scores_key
    other = brca1(12, seed=2)[0].encode()
    for content, says in (
        (other, f"is not the one that was uploaded: it has {len(other):,} bytes with"),
        (None, "is not in the store"),
    ):
        file.unlink() if content is None else file.write_bytes(content)
        operations.restart(client, submitted.pipeline_urn, **OPERATOR)
        assert mavedb.wait_for(submitted) == "failed"
        job = mavedb.jobs(submitted)[CREATE]
        assert job.failure_category == "data_error"
        for words in (
            f"The uploaded file {uploaded.scores_key}",
            says,
            f"{before['scores'].size:,} bytes with the SHA-256 {digest_of(SCORES).sha256}",
            f"{before['scores'].recorded_at:%Y-%m-%d at %H:%M:%S} UTC, when it was first read",
            f"Put the recorded file back and run {submitted.pipeline_urn} again",
        ):
            assert words in job.error_message
        if content is not None:
            assert digest_of(content).sha256 in job.error_message
        score_set = mavedb.rows(
            "SELECT processing_state, processing_errors FROM scoresets WHERE id = :id",
            id=submitted.score_set_id,
        )[0]
        assert score_set.processing_state == "failed"
        assert score_set.processing_errors["exception"].endswith(job.error_message)

        folder = tmp_path / ("lost" if content is None else "changed")
        code, _, said = uploads(mavedb, submitted.pipeline_urn, "--save", str(folder))
        assert (code, says in said) == (1, True)
        saved = [found for found in folder.rglob("*") if found.is_file()]
        assert saved == [folder / str(uploaded.counts_key)]
    assert variant_ids(mavedb, submitted) == variants
    assert recorded(mavedb, submitted) == before

    file.write_bytes(SCORES)
    operations.retry_failed(client, submitted.pipeline_urn, **OPERATOR)
    assert mavedb.wait_for(submitted) == "succeeded"
    assert variant_ids(mavedb, submitted).isdisjoint(variants)
    assert recorded(mavedb, submitted) == before


def test_a_file_that_is_refused_is_recorded_all_the_same(mavedb: MaveDB) -> None:
    refused = create(mavedb, b"hgvs_pro,score\np.Met1Ala,0\xe9\n", COUNTS)
    told = create(mavedb, SCORES, said_to_be=COUNTS)
    for uploaded in (refused, told):
        assert mavedb.wait_for(uploaded.submitted) == "failed"
    assert mavedb.jobs(refused.submitted)[CREATE].failure_category == "validation_error"
    assert set(recorded(mavedb, refused.submitted)) == {"scores", "counts"}

    job = mavedb.jobs(told.submitted)[CREATE]
    assert job.failure_category == "data_error"
    assert "when its pipeline was asked for" in job.error_message
    row = recorded(mavedb, told.submitted)["scores"]
    assert (row.sha256, row.recorded_by) == (digest_of(COUNTS).sha256, "request")


def test_the_record_outlives_its_pipeline_its_score_set_and_its_user(domain_database: str) -> None:
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        ids = insert_score_set(connection, urn="tmp:1", user="curator", **SCORE_SET)
        asked = params(*ids, "1/1/scores.csv", None)
        digests = {"1/1/scores.csv": digest_of(SCORES)}
        planned = request_pipeline(connection, CREATE, asked, ids[1], None, digests=digests)
        for statement in (
            "DELETE FROM pipelines",
            "DELETE FROM target_genes",
            "DELETE FROM scoresets",
            "UPDATE experiments SET created_by_id = NULL, modified_by_id = NULL",
            "UPDATE experiment_sets SET created_by_id = NULL, modified_by_id = NULL",
            "DELETE FROM users",
        ):
            connection.execute(text(statement))
    engine.dispose()
    done = run_command("uploads", planned.pipeline_urn, DATABASE_URL=domain_database)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third, fourth = done.stdout.splitlines()
    assert first == "1/1/scores.csv"
    assert second == f"  scores, {len(SCORES):,} bytes, SHA-256 {digest_of(SCORES).sha256}"
    assert third.endswith(f" UTC (request), by {ids[1]}")
    assert fourth == f"  for {planned.pipeline_urn}"
    done = run_command("uploads", "tmp:1", DATABASE_URL=domain_database)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no score set and no pipeline tmp:1" in done.stderr


@pytest.mark.parametrize(
    ("key", "sha256", "says"),
    [
        ("1/1/other.csv", "0" * 64, "scores_file_key is 1/1/scores.csv"),
        ("1/1/scores.csv", "XYZ", "must be the SHA-256"),
    ],
)
def test_a_digest_that_cannot_be_is_refused_with_the_request(
    mavedb: MaveDB, uploaded: Uploaded, key: str, sha256: str, says: str
) -> None:
    asked = params(uploaded.submitted.score_set_id, 1, "1/1/scores.csv", None)
    with mavedb.engine.connect() as connection, pytest.raises(RequestError, match=says):
        request_pipeline(connection, CREATE, asked, None, None, digests={key: Digest(sha256, 1)})
