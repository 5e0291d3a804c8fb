"""Uploaded files, read from a folder and from an S3 that moto simulates."""

import json
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import create_engine

from deployments.local.submission import insert_score_set
from mavedb_audit.errors import ConfigurationError, ServiceError, StepError
from mavedb_audit.trigger import request_pipeline
from mavedb_audit.upload_store import Digest, digest_of, download
from tests.support_command import run_command

BUCKET = "score-set-csv-uploads-test"
STORE = f"s3://{BUCKET}"
KEY = "17/3/2026-11-24-1795520747579-scores.csv"
CONTENT = b"hgvs_pro,score\np.Met1Ala,0.5\n"
#: Read in more than one piece.
LARGE = b"0123456789abcdef" * (1024 * 1024)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def s3_endpoint_url() -> Iterator[str]:
    """An S3 with one bucket and two files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        s3 = boto3.client("s3", endpoint_url=url)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
        s3.put_object(Bucket=BUCKET, Key="17/3/large.csv", Body=LARGE)
        yield url
        server.stop()


def read(
    store_url: str, key: str, s3_endpoint_url: str | None = None
) -> tuple[bytes, Digest | None]:
    content = BytesIO()
    found = download(store_url, key, content, s3_endpoint_url=s3_endpoint_url)
    return content.getvalue(), found


def test_a_file_is_read_from_s3(s3_endpoint_url: str) -> None:
    assert read(STORE, KEY, s3_endpoint_url) == (CONTENT, digest_of(CONTENT))
    assert read(STORE, "17/3/large.csv", s3_endpoint_url) == (LARGE, digest_of(LARGE))
    assert read(STORE, "17/3/other.csv", s3_endpoint_url) == (b"", None)


def test_an_s3_that_does_not_answer_is_worth_another_try(s3_endpoint_url: str) -> None:  # noqa: ARG001
    with pytest.raises(ServiceError, match=KEY) as raised:
        read(STORE, KEY, NOWHERE)
    assert raised.value.category == "network_error"


def test_a_file_is_read_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "scores.csv").write_bytes(CONTENT)
    store = tmp_path.as_uri()
    assert read(store, "17/scores.csv") == (CONTENT, digest_of(CONTENT))
    for absent in ("17/counts.csv", "17", "17/scores.csv/more"):
        assert read(store, absent) == (b"", None)


@pytest.mark.parametrize(
    "key",
    [
        "../secret.csv",
        "17/../../secret.csv",
        "{folder}/secret.csv",
        "file://{folder}/secret.csv",
        "x::file://{folder}/secret.csv",
        "%2e%2e/secret.csv",
        "17//scores.csv",
        "17/scores.csv\n",
        "",
    ],
)
def test_no_key_leads_out_of_the_store(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.csv").write_bytes(CONTENT)
    (tmp_path / "store" / "17").mkdir(parents=True)
    (tmp_path / "store" / "17" / "scores.csv").write_bytes(CONTENT)
    with pytest.raises(StepError, match="is not the key of an uploaded file"):
        read((tmp_path / "store").as_uri(), key.replace("{folder}", str(tmp_path)))


def test_a_store_that_nothing_can_open_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="UPLOAD_STORE_URL"):
        read("nonsense://bucket", KEY)


def test_the_command_saves_from_s3_what_the_request_recorded(
    domain_database: str, s3_endpoint_url: str, tmp_path: Path
) -> None:
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn="tmp:17",
            title="A score set",
            target_name="ABC",
            sequence="ATGGCT",
            sequence_type="dna",
            user="curator",
        )
        files = {"scores_file_key": "17/3/large.csv", "counts_file_key": KEY}
        params = {"score_set_id": score_set_id, "updater_id": user_id, **files}
        metadata = {"score_columns_metadata": {}, "count_columns_metadata": {}}
        planned = request_pipeline(
            connection,
            "create_variants_for_score_set",
            params | metadata,
            user_id,
            None,
            digests={"17/3/large.csv": digest_of(LARGE), KEY: digest_of(CONTENT)},
        )
    engine.dispose()
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    env = {"DATABASE_URL": domain_database, "UPLOAD_STORE_URL": STORE, **aws}
    saving = ("uploads", "tmp:17", "--output", "json", "--save", str(tmp_path))

    unreachable = run_command(*saving, S3_ENDPOINT_URL=NOWHERE, **env)
    assert unreachable.returncode == 3
    assert STORE in unreachable.stderr
    assert list(tmp_path.iterdir()) == []

    done = run_command(*saving, S3_ENDPOINT_URL=s3_endpoint_url, **env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "17/3/large.csv").read_bytes() == LARGE
    assert (tmp_path / KEY).read_bytes() == CONTENT
    assert [(each["kind"], each["recorded_by"]) for each in json.loads(done.stdout)] == [
        ("scores", "request"),
        ("counts", "request"),
    ]
    assert {each["pipeline_urn"] for each in json.loads(done.stdout)} == {planned.pipeline_urn}
