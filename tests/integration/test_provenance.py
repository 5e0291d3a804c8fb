"""The provenance of a score set, as the files that other programs read."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prov.model import (
    PROV_ATTR_ACTIVITY,
    PROV_ATTR_AGENT,
    PROV_ATTR_ENTITY,
    PROV_ATTR_INFORMANT,
    PROV_ATTR_STARTER,
    PROV_ATTR_USED_ENTITY,
    ProvAssociation,
    ProvAttribution,
    ProvCommunication,
    ProvDerivation,
    ProvDocument,
    ProvElement,
    ProvGeneration,
    ProvRelation,
    ProvStart,
    ProvUsage,
)
from sqlalchemy import Engine, text

from mavedb_audit import accounts, uploads
from mavedb_audit.accounts import Status
from mavedb_audit.errors import RequestError
from mavedb_audit.metrics import Meter
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.provenance import Exported, export
from mavedb_audit.reasons import Reason
from mavedb_audit.recorder import attempts, plans
from mavedb_audit.upload_store import Digest
from tests.support import insert_numbered_variants
from tests.support_recorder import CAR, GNOMAD, Pipeline, plan, plan_two_steps

URN = "tmp:numbered"
#: More than are read at once.
VARIANTS = 2_500
KEY = "1/1/2026-11-29-scores.csv"
DIGEST = Digest(hashlib.sha256(b"scores").hexdigest(), 6)


@pytest.fixture
def score_set_id(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """A score set of an upload, registered at the second try; gnomAD knows half of it."""
    plan_two_steps(monkeypatch)
    with engine.begin() as connection:
        score_set_id, user_id = insert_numbered_variants(connection, VARIANTS)
        created = plans.plan_pipeline(
            connection,
            "create_variants_for_score_set",
            {
                "score_set_id": score_set_id,
                "updater_id": user_id,
                "scores_file_key": KEY,
                "counts_file_key": None,
                "score_columns_metadata": {},
                "count_columns_metadata": {},
            },
            user_id=user_id,
            correlation_id=None,
        )
        given = {"score_set_id": score_set_id, "scores_file_key": KEY}
        uploads.record_given(connection, created.pipeline_id, given, {KEY: DIGEST})
        connection.execute(text("UPDATE raw_uploads SET user_id = :id"), {"id": user_id})
        connection.execute(
            text(
                """
                UPDATE job_runs SET status = 'succeeded', finished_at = now()
                 WHERE job_function = 'create_variants_for_score_set'
                """
            )
        )
        planned = plan(connection, score_set_id)
    played = Pipeline(engine, score_set_id, planned)
    played.open()
    played.fail(played.begin(CAR), will_be_retried=True)
    registered = [Status(n) for n in range(1, VARIANTS + 1)]
    _finish(played, CAR, AnnotationType.CLINGEN_ALLELE_ID, None, registered, run_count=2)
    linked = [
        Status(n, data={"gnomad_db_identifier": f"17-{n}"})
        if n % 2
        else Status(n, Reason.NOT_IN_SOURCE)
        for n in range(1, VARIANTS + 1)
    ]
    _finish(played, GNOMAD, AnnotationType.GNOMAD_ALLELE_FREQUENCY, "v4.1", linked)
    return score_set_id


def _finish(
    played: Pipeline,
    key: str,
    annotation_type: AnnotationType,
    version: str | None,
    statuses: list[Status],
    *,
    run_count: int = 1,
) -> None:
    attempt = played.begin(key, run_count=run_count)
    meter = Meter()
    meter.requests["ClinGen Allele Registry"] = {"2xx": 2}
    with played.engine.begin() as connection:
        accounts.write(
            connection,
            job_id=attempt.job.job_id,
            score_set_id=played.score_set_id,
            annotation_type=annotation_type,
            version=version,
            statuses=statuses,
        )
        attempts.finish_attempt(connection, attempt, {}, meter.usage())


def exported(engine: Engine, folder: Path, urn: str = URN, **options: Any) -> Exported:
    with engine.connect() as connection:
        return export(connection, urn, folder, **options)


def read(found: Exported) -> tuple[ProvDocument, pl.DataFrame]:
    document = ProvDocument.deserialize(content=found.prov.read_text(), format="json")
    return document, pl.read_parquet(found.parquet)


def targets(document: ProvDocument, kind: type[ProvRelation], subject: str, role: Any) -> list[str]:
    """What the subject stands in that relation to; the subject is what a relation names first."""
    return [
        str(next(iter(relation.get_attribute(role))))
        for relation in document.get_records(kind)
        if str(relation.args[0]) == subject and relation.get_attribute(role)
    ]


@pytest.mark.usefixtures("score_set_id")
def test_a_program_reads_the_document_and_everything_that_it_refers_to_is_in_it(
    engine: Engine, tmp_path: Path
) -> None:
    document, _ = read(exported(engine, tmp_path))
    there = {str(record.identifier) for record in document.get_records(ProvElement)}
    named = {
        str(value)
        for relation in document.get_records(ProvRelation)
        for value in relation.args
        if value is not None and not hasattr(value, "isoformat")
    }
    assert named <= there
    assert {str(record.identifier.uri) for record in document.get_records(ProvElement)} >= {
        URN,
        *_urns(engine, "job_runs", "job_function <> 'start_pipeline'"),
        *_urns(engine, "pipelines", "true"),
    }


def _urns(engine: Engine, table: str, where: str) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT urn FROM {table} WHERE {where}")).scalars())


@pytest.mark.usefixtures("score_set_id")
def test_each_current_annotation_is_a_row_and_a_member_of_a_collection(
    engine: Engine, tmp_path: Path
) -> None:
    found = exported(engine, tmp_path)
    document, rows = read(found)
    with engine.connect() as connection:
        statuses = connection.execute(
            text(
                """
                SELECT variants.urn, annotation_type, version, status.status,
                       status.failure_category, status.error_message,
                       CAST(success_data AS text), job.urn
                  FROM variant_annotation_status AS status
                  JOIN variants ON variants.id = variant_id
                  JOIN job_runs AS job ON job.id = job_run_id
                 WHERE status.current ORDER BY variants.id, annotation_type
                """
            )
        ).all()
    columns = [
        *("variant_urn", "annotation_type", "version", "status", "reason", "message", "data"),
        "job_urn",
    ]
    assert rows.select(columns).rows() == [tuple(row) for row in statuses]
    assert found.rows == len(statuses) == 2 * VARIANTS
    collections = {
        str(entity.identifier): next(iter(entity.get_attribute("audit:variants")))
        for entity in document.get_records(ProvElement)
        if entity.get_attribute("audit:members")
    }
    assert collections == Counter(rows["entity"])
    file = document.get_record(f"audit:file/{found.parquet_sha256}")[0]
    assert found.parquet_sha256 == hashlib.sha256(found.parquet.read_bytes()).hexdigest()
    assert list(file.get_attribute("audit:rows")) == [found.rows]


@pytest.mark.usefixtures("score_set_id")
def test_from_a_variants_row_the_way_leads_back_to_its_file_and_its_user(
    engine: Engine, tmp_path: Path
) -> None:
    document, rows = read(exported(engine, tmp_path))
    row = rows.row(
        by_predicate=(pl.col("variant_urn") == f"{URN}#1")
        & (pl.col("annotation_type") == "clingen_allele_id"),
        named=True,
    )
    assert row["attempt"] == 2
    assert row["attempt_started_at"] <= row["recorded_at"] <= row["attempt_finished_at"]
    (attempt,) = targets(document, ProvGeneration, row["entity"], PROV_ATTR_ACTIVITY)
    (job,) = targets(document, ProvStart, attempt, PROV_ATTR_STARTER)
    assert document.get_record(job)[0].identifier.uri == row["job_urn"]
    services = targets(document, ProvAssociation, attempt, PROV_ATTR_AGENT)
    assert services == ["audit:service/ClinGen%20Allele%20Registry"]
    (software,) = targets(document, ProvAssociation, job, PROV_ATTR_AGENT)
    assert software.startswith("audit:software/mavedb-audit/")

    gnomad = rows.row(
        by_predicate=(pl.col("variant_urn") == f"{URN}#1") & (pl.col("version") == "v4.1"),
        named=True,
    )
    (linking,) = targets(document, ProvGeneration, gnomad["entity"], PROV_ATTR_ACTIVITY)
    assert targets(document, ProvUsage, linking, PROV_ATTR_ENTITY) == ["audit:release/gnomAD/v4.1"]
    (link,) = targets(document, ProvStart, linking, PROV_ATTR_STARTER)
    assert targets(document, ProvCommunication, link, PROV_ATTR_INFORMANT) == [job]

    score_set, release = targets(document, ProvDerivation, gnomad["entity"], PROV_ATTR_USED_ENTITY)
    assert release == "audit:release/gnomAD/v4.1"
    (upload,) = targets(document, ProvDerivation, score_set, PROV_ATTR_USED_ENTITY)
    assert list(document.get_record(upload)[0].get_attribute("audit:sha256")) == [DIGEST.sha256]
    (user,) = targets(document, ProvAttribution, upload, PROV_ATTR_AGENT)
    assert list(document.get_record(user)[0].get_attribute("audit:username")) == ["curator"]


@pytest.mark.usefixtures("score_set_id")
def test_the_same_state_gives_the_same_files(engine: Engine, tmp_path: Path) -> None:
    first, second = (exported(engine, tmp_path / name) for name in ("a", "b"))
    assert first.prov.read_bytes() == second.prov.read_bytes()
    assert first.parquet.read_bytes() == second.parquet.read_bytes()


def test_files_that_are_there_stay_unless_they_may_be_replaced(
    engine: Engine, score_set_id: int, tmp_path: Path
) -> None:
    before = exported(engine, tmp_path)
    content = before.prov.read_bytes()
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE scoresets SET title = 'Another' WHERE id = :id"), {"id": score_set_id}
        )
    with pytest.raises(RequestError, match=r"already .*prov\.json and .*parquet: .*--overwrite"):
        exported(engine, tmp_path)
    assert before.prov.read_bytes() == content
    assert b"Another" in exported(engine, tmp_path, overwrite=True).prov.read_bytes()


@pytest.mark.usefixtures("score_set_id")
def test_what_cannot_be_written_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    in_the_way = tmp_path / "tmp-numbered.annotations.parquet"
    in_the_way.mkdir()
    with pytest.raises(RequestError, match="Cannot write to"):
        exported(engine, tmp_path, overwrite=True)
    assert list(tmp_path.rglob("*")) == [in_the_way]
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RequestError, match="Cannot write to"):
        exported(engine, file)


def test_no_urn_leads_out_of_the_folder(engine: Engine, score_set_id: int, tmp_path: Path) -> None:
    urn = "../../etc/tmp:x\\y\n"
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE scoresets SET urn = :urn WHERE id = :id"), {"urn": urn, "id": score_set_id}
        )
    folder = tmp_path / "deep" / "folder"
    found = exported(engine, folder, urn)
    assert {found.prov, found.parquet} == set(folder.iterdir())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [*folder.iterdir()]
    read(found)


def test_a_score_set_without_variants_has_files_too(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        insert_numbered_variants(connection, 0)
    found = exported(engine, tmp_path)
    document, rows = read(found)
    assert (found.rows, found.collections, rows.height) == (0, 0, 0)
    assert "entity" in rows.columns
    assert document.get_record(URN)


def test_an_unknown_score_set_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no score set urn:mavedb:00000009-z-9"):
        exported(engine, tmp_path, "urn:mavedb:00000009-z-9")
    assert list(tmp_path.iterdir()) == []
