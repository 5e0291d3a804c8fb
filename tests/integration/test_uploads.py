"""Uploaded files, read from a folder and from an S3 that moto simulates."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mavedb_audit.errors import ConfigurationError, StepError
from tasks.clients.uploads import read_upload

BUCKET = "score-set-csv-uploads-test"
KEY = "17/3/2026-11-24-1795520747579-scores.csv"
CONTENT = b"hgvs_pro,score\np.Met1Ala,0.5\n"


@pytest.fixture
def s3_endpoint_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 with one bucket and one file."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3 = boto3.client("s3", endpoint_url=url)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
    yield url
    server.stop()


def test_a_file_is_read_from_s3(s3_endpoint_url: str) -> None:
    read = read_upload(f"s3://{BUCKET}", KEY, s3_endpoint_url=s3_endpoint_url)
    assert read == CONTENT


def test_a_file_that_is_not_in_s3_is_named(s3_endpoint_url: str) -> None:
    with pytest.raises(StepError, match=r"17/3/other\.csv is not in the store s3://"):
        read_upload(f"s3://{BUCKET}", "17/3/other.csv", s3_endpoint_url=s3_endpoint_url)


def test_a_file_is_read_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "scores.csv").write_bytes(CONTENT)
    assert read_upload(tmp_path.as_uri(), "17/scores.csv", s3_endpoint_url=None) == CONTENT
    with pytest.raises(StepError, match="upload it again"):
        read_upload(tmp_path.as_uri(), "17/counts.csv", s3_endpoint_url=None)


def test_a_store_that_nothing_can_open_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="UPLOAD_STORE_URL"):
        read_upload("nonsense://bucket", KEY, s3_endpoint_url=None)
