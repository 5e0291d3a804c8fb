"""Loaded releases of ClinVar, in a folder and in an S3 that moto simulates."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from mavedb_audit.errors import ConfigurationError, StepError
from tasks.clinvar.store import Incomplete, Record, Store
from tasks.clinvar.variant_summary import COLUMNS

ALLELES = pl.DataFrame(
    [
        (15041, 2, "AP5Z1", "Pathogenic", "reviewed by expert panel"),
        (15042, None, "-", "Benign", "-"),
        (15043, 4, "", "Benign", None),
        *((n, n, "PTEN", "Benign", "-") for n in range(20_000, 250_000)),
    ],
    schema=COLUMNS,
    orient="row",
)


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    if request.param == "folder":
        yield Store(str(tmp_path / "a folder" / "clinvar"), s3_endpoint_url=None)
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="mavedb")
    yield Store("s3://mavedb/clinvar", s3_endpoint_url=url)
    server.stop()


def test_what_was_put_is_read_for_the_alleles_that_are_asked_for(
    store: Store, tmp_path: Path
) -> None:
    assert not store.has("2026-01")
    store.put("2026-01", ALLELES, tmp_path)
    assert store.has("2026-01")
    assert not store.has("2025-01")

    assert store.read("2026-01", [15041, 15042, 15043, 15044, 249_999]) == {
        15041: Record(15041, "AP5Z1", "Pathogenic", "reviewed by expert panel", 2),
        15042: Record(15042, "-", "Benign", "-", None),
        15043: Incomplete(15043),
        249_999: Record(249_999, "PTEN", "Benign", "-", 249_999),
    }
    assert store.read("2026-01", []) == {}

    store.put("2026-01", ALLELES.head(1), tmp_path)
    assert store.read("2026-01", [15041, 15042]).keys() == {15041}


def test_a_release_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "clinvar"
    store = Store(str(folder), s3_endpoint_url=None)
    store.put("2026-01", ALLELES, tmp_path)
    whole = Path(store.path_of("2026-01"))
    # What a process leaves that was killed while it wrote.
    whole.rename(whole.with_name(f"{whole.name}.part"))

    assert not store.has("2026-01")
    store.put("2026-01", ALLELES, tmp_path)
    assert [file.name for file in folder.iterdir()] == [whole.name]


@pytest.mark.parametrize("content", [b"", b"not Parquet", None], ids=["empty", "text", "other"])
def test_a_file_that_is_no_release_is_named(tmp_path: Path, content: bytes | None) -> None:
    store = Store(tmp_path.as_uri(), s3_endpoint_url=None)
    file = tmp_path / "variant_summary_2026-01.parquet"
    if content is None:
        pl.DataFrame({"allele_id": [1]}).write_parquet(file)
    else:
        file.write_bytes(content)
    with pytest.raises(StepError, match=rf"{file} is not a release .* Delete it") as caught:
        store.read("2026-01", [1])
    assert len(str(caught.value)) < 1_000


def test_a_store_that_cannot_be_opened_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CLINVAR_CACHE_DIR"):
        Store("nonsense://bucket", s3_endpoint_url=None)
    (tmp_path / "clinvar").write_text("a file where a folder should be")
    with pytest.raises(ConfigurationError, match="CLINVAR_CACHE_DIR"):
        Store(str(tmp_path / "clinvar"), s3_endpoint_url=None).put("2026-01", ALLELES, tmp_path)
