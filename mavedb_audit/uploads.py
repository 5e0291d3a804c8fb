"""Which files a pipeline was given, by their digests: the only writer of raw_uploads.

A file is recorded when its pipeline is asked for, if the caller knows its digest, and else when it
is first read. Whatever reads it later must find the same.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, text

from mavedb_audit import upload_store
from mavedb_audit.database import AnyConnection
from mavedb_audit.errors import RequestError, StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.settings import settings
from mavedb_audit.upload_store import Digest


class UploadKind(StrEnum):
    """Which of a score set's two tables a file holds."""

    SCORES = "scores"
    COUNTS = "counts"


class RecordedBy(StrEnum):
    """Who knew the digest: the request, which held the file itself, or whoever read it first."""

    REQUEST = "request"
    FIRST_READ = "first_read"


@dataclass(frozen=True)
class Upload:
    """A recorded file. `username` is None for a user whom MaveDB does not know (any more)."""

    kind: str
    key: str
    sha256: str
    size: int
    user_id: int | None
    username: str | None
    score_set_id: int
    pipeline_id: int
    pipeline_urn: str
    recorded_by: str
    recorded_at: datetime

    @property
    def digest(self) -> Digest:
        return Digest(self.sha256, self.size)


def fetch(key: str, into: IO[bytes], *, most_bytes: int | None = None) -> Digest | None:
    """Copy a file of the store of UPLOAD_STORE_URL. None where there is no such file.

    Raises StepError (validation_error) for one of more than `most_bytes`.
    """
    return upload_store.download(
        settings().upload_store_url,
        key,
        into,
        s3_endpoint_url=settings().s3_endpoint_url,
        most_bytes=most_bytes,
    )


def record_given(
    connection: AnyConnection,
    pipeline_id: int,
    params: Mapping[str, Any],
    digests: Mapping[str, Digest],
) -> None:
    """Record the files of a pipeline that is being asked for, by the digests of their keys.

    Raises RequestError for a key that the pipeline's `params` do not name, or no SHA-256.
    """
    kinds = {params.get(f"{kind}_file_key"): kind for kind in UploadKind}
    for key, digest in digests.items():
        if key not in kinds:
            raise RequestError(
                f"digests has the file {key}, but scores_file_key is"
                f" {params.get('scores_file_key')} and counts_file_key is"
                f" {params.get('counts_file_key')}"
            )
        if not re.fullmatch("[0-9a-f]{64}", digest.sha256):
            raise RequestError(
                f"The digest of {key} is {digest.sha256!r}: it must be the SHA-256 of the file's"
                " bytes, as 64 hexadecimal digits in lower case"
            )
        given = (pipeline_id, params["score_set_id"], kinds[key], key)
        _insert(connection, *given, digest, RecordedBy.REQUEST)


def record_or_verify(
    connection: Connection,
    *,
    pipeline_id: int,
    score_set_id: int,
    kind: UploadKind,
    key: str,
    found: Digest | None,
) -> None:
    """Record what was `found` in the store, None for nothing, or compare it with the record.

    Raises StepError (data_error) when the file is gone or differs from what was recorded.
    """
    if found is not None:
        given = (pipeline_id, score_set_id, kind, key)
        _insert(connection, *given, found, RecordedBy.FIRST_READ)
    recorded = connection.execute(
        text(f"{_UPLOADS} WHERE (pipeline_id, kind, key) = (:pipeline_id, :kind, :key)"),
        {"pipeline_id": pipeline_id, "kind": kind, "key": key},
    ).one_or_none()
    if recorded is not None:
        verify(Upload(*recorded), found)
    elif found is None:
        raise StepError(
            f"The uploaded file {key} is not in the store {settings().upload_store_url}:"
            " upload it again",
            FailureCategory.DATA_ERROR,
        )


def verify(upload: Upload, found: Digest | None) -> None:
    """Raise StepError (data_error) unless the file that was found is the recorded one."""
    if found == upload.digest:
        return
    store = settings().upload_store_url
    recorded = (
        f"{upload.size:,} bytes with the SHA-256 {upload.sha256} were recorded on"
        f" {upload.recorded_at:%Y-%m-%d at %H:%M:%S} UTC, when"
        f" {_WHEN[RecordedBy(upload.recorded_by)]}"
    )
    problem = (
        f"The uploaded file {upload.key} is not in the store {store} any more: {recorded}"
        if found is None
        else f"The uploaded file {upload.key} in the store {store} is not the one that was"
        f" uploaded: it has {found.size:,} bytes with the SHA-256 {found.sha256}, but {recorded}"
    )
    raise StepError(
        f"{problem}. Put the recorded file back and run {upload.pipeline_urn} again, or upload the"
        " file again",
        FailureCategory.DATA_ERROR,
    )


def find(connection: Connection, urn: str) -> list[Upload]:
    """What was uploaded for the score set or for the pipeline of that URN, oldest first.

    Raises RequestError where there is neither. Records outlive both: a pipeline that was deleted
    is still found by its URN.
    """
    found = connection.execute(
        text(
            f"""
            {_UPLOADS}
             WHERE pipeline_urn = :urn
                OR score_set_id = (SELECT id FROM scoresets WHERE urn = :urn)
             ORDER BY recorded_at, pipeline_id, kind DESC
            """
        ),
        {"urn": urn},
    ).all()
    if not found and not connection.execute(text(_IS_KNOWN), {"urn": urn}).scalar_one():
        raise RequestError(f"There is no score set and no pipeline {urn}")
    return [Upload(*row) for row in found]


def path_in(folder: Path, upload: Upload) -> Path:
    """Where the file is saved.

    Raises StepError for a key that would lead out of the folder, RequestError where there is
    something already.
    """
    upload_store.check_key(upload.key)
    path = folder / upload.key
    if path.exists():
        raise RequestError(
            f"{path} is there already, and nothing is overwritten: save to another folder"
        )
    return path


def save(upload: Upload, folder: Path) -> Path:
    """Write the file below the folder, whole and as it was recorded, or not at all.

    Raises StepError when the store's file is gone or differs.
    """
    path = path_in(folder, upload)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part") as aside:
            verify(upload, fetch(upload.key, aside))
            aside.flush()
            os.fsync(aside.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(aside.name, path)  # which, unlike a rename, never takes another file's place
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error}") from error
    return path


_WHEN = {
    RecordedBy.REQUEST: "its pipeline was asked for",
    RecordedBy.FIRST_READ: "it was first read",
}

_UPLOADS = """
    SELECT kind, key, sha256, size, user_id, username, score_set_id, pipeline_id, pipeline_urn,
           recorded_by, recorded_at
      FROM raw_uploads LEFT JOIN users ON users.id = user_id
"""

_IS_KNOWN = """
    SELECT EXISTS (SELECT FROM pipelines WHERE urn = :urn)
        OR EXISTS (SELECT FROM scoresets WHERE urn = :urn)
"""


def _insert(
    connection: AnyConnection,
    pipeline_id: int,
    score_set_id: int,
    kind: UploadKind,
    key: str,
    digest: Digest,
    recorded_by: RecordedBy,
) -> None:
    """Record the file, unless it is already. It was uploaded by whoever asked for the pipeline."""
    connection.execute(
        text(
            """
            INSERT INTO raw_uploads (pipeline_id, kind, key, sha256, size, user_id, score_set_id,
                                     pipeline_urn, recorded_by)
            SELECT id, :kind, :key, :sha256, :size, created_by_user_id, :score_set_id, urn,
                   :recorded_by
              FROM pipelines WHERE id = :pipeline_id
            ON CONFLICT DO NOTHING
            """
        ),
        {
            "pipeline_id": pipeline_id,
            "kind": kind,
            "key": key,
            "sha256": digest.sha256,
            "size": digest.size,
            "score_set_id": score_set_id,
            "recorded_by": recorded_by,
        },
    )
