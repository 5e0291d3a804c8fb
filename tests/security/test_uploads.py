"""Uploaded files that are too large, packed, no text, or the key of something else."""

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.upload_store import digest_of, download
from tasks.upload.reading import Limits, read_table

LIMITS = Limits(columns=4, rows=5, cell_characters=30)
HEADER = b"hgvs_pro,score\n"
ROW = b"p.=,1\n"


def refusal(content: bytes, limits: Limits = LIMITS) -> StepError:
    with pytest.raises(StepError) as caught:
        read_table(content, "f.csv", limits)
    assert caught.value.category is FailureCategory.VALIDATION_ERROR
    return caught.value


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (b"a,b,c,d,e\n1,2,3,4,5\n", ["line 1: it has 5 cells", "at most 4", "MAX_UPLOAD_COLUMNS"]),
        (HEADER + ROW + b"1,2,3,4,5\n", ["line 3: it has 5 cells", "MAX_UPLOAD_COLUMNS"]),
        (HEADER + 6 * ROW, ["line 7: the table has more than 5 rows", "MAX_UPLOAD_ROWS"]),
        (HEADER + ROW + 9 * b"\n" + ROW, ["line 12: ", "more than 5 rows", "MAX_UPLOAD_ROWS"]),
        (
            HEADER + ROW + b"p.=," + b"1" * 31 + b"\n",
            ["line 3, column score: the cell has 31 characters", "MAX_UPLOAD_CELL_CHARACTERS"],
        ),
        (b"score," + b"x" * 31 + b"\n1,2\n", ["line 1, column number 2: the cell has 31"]),
        (
            HEADER + ROW + b'p.=,"' + ROW * 40_000,
            ["line 3: the cell has 131,072 characters or more", "at most 30", "a quote"],
        ),
    ],
)
def test_a_table_that_is_too_large_is_refused_with_place_and_limit(
    content: bytes, places: list[str]
) -> None:
    said = str(refusal(content))
    assert said.startswith("f.csv")
    for place in places:
        assert place in said


def test_a_table_at_its_limits_is_read() -> None:
    content = b"a,b,c," + b"d" * 30 + b"\n" + 5 * (b"1,2,3," + b"x" * 30 + b"\n") + 9 * b"\n"
    assert read_table(content, "f.csv", LIMITS).shape == (5, 4)


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        # A row each, between two others.
        (HEADER + ROW + 300_000 * b"\n" + ROW, Limits(rows=200_000)),
        # All of them wrong, and each of them worth a message.
        (HEADER + 150_000 * b"1,2,3\n", Limits()),
        # A line of columns without a name.
        (2_000_000 * b"," + b"\n", LIMITS),
    ],
)
def test_a_bomb_of_few_bytes_takes_little_memory(content: bytes, limits: Limits) -> None:
    tracemalloc.start()
    try:
        refusal(content, limits)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A few copies of the content; its cells, names or messages would be a multiple of that.
    assert peak < 5_000_000 + 5 * len(content)


def packed() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scores.csv", HEADER + ROW)
    return {"gzip": gzip.compress(HEADER + ROW * 1_000_000), "zip": archive.getvalue()}


@pytest.mark.parametrize(("kind", "content"), packed().items())
def test_a_packed_file_is_not_unpacked(kind: str, content: bytes) -> None:
    assert f"f.csv: the file is packed ({kind})" in str(refusal(content))


@pytest.mark.parametrize("control", [0, 7, 8, 11, 27, 127])
def test_control_characters_are_no_text(control: int) -> None:
    said = str(refusal(HEADER + ROW + b"p.=," + bytes([control]) + b"[2J\n"))
    assert said.startswith("f.csv, line 3: byte 25 is ")
    assert bytes([control]).decode() not in said


# The store.


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 with the file large.csv, of 32 bytes, in the bucket uploads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="uploads")
        client.create_bucket(Bucket="other")
        client.put_object(Bucket="uploads", Key="large.csv", Body=b"x" * 32)
        client.put_object(Bucket="other", Key="secret.csv", Body=b"secret")
        yield f"http://{host}:{port}"
        server.stop()


def test_a_file_is_measured_before_it_is_read(s3: str, tmp_path: Path) -> None:
    (tmp_path / "large.csv").write_bytes(b"x" * 32)
    for store, endpoint in ((tmp_path.as_uri(), None), ("s3://uploads", s3)):
        content = BytesIO()
        with pytest.raises(StepError) as caught:
            download(store, "large.csv", content, s3_endpoint_url=endpoint, most_bytes=31)
        assert caught.value.category is FailureCategory.VALIDATION_ERROR
        assert "large.csv: the file has 32 bytes or more" in str(caught.value)
        assert "at most 31 are accepted (MAX_UPLOAD_BYTES)" in str(caught.value)
        assert content.getvalue() == b""
        found = download(store, "large.csv", content, s3_endpoint_url=endpoint, most_bytes=32)
        assert found == digest_of(b"x" * 32)


def test_a_file_that_is_larger_than_it_says_is_read_to_the_limit() -> None:
    """The kernel's own files say that they have 0 bytes, and go on for ever."""
    assert Path("/dev/zero").stat().st_size == 0
    read = BytesIO()
    with pytest.raises(StepError, match="MAX_UPLOAD_BYTES"):
        download("file:///dev", "zero", read, s3_endpoint_url=None, most_bytes=10_000_000)
    assert len(read.getvalue()) <= 10_000_000


@pytest.mark.parametrize(
    "key",
    [
        "../secret.csv",
        "17/../../secret.csv",
        "/etc/passwd",
        "..\\secret.csv",
        "s3://other/secret.csv",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "simplecache::file:///etc/passwd",
        "large.csv\0.png",
        "large.csv?versionId=1",
        "large.csv#",
        "~root/secret.csv",
        "*.csv",
        "large.csv'; DROP TABLE variants; --",
        "l\u0430rge.csv",
    ],
)
def test_a_key_leads_nowhere_but_into_the_store(s3: str, tmp_path: Path, key: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "secret.csv").write_bytes(b"secret")
    for url, endpoint in ((store.as_uri(), None), ("s3://uploads", s3)):
        content = BytesIO()
        with pytest.raises(StepError, match="is not the key of an uploaded file"):
            download(url, key, content, s3_endpoint_url=endpoint)
        assert content.getvalue() == b""
