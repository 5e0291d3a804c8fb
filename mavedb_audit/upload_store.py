"""The store of uploaded score and count files, wherever fsspec finds it: a folder, or S3."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec

from mavedb_audit.errors import ConfigurationError, ServiceError, StepError
from mavedb_audit.failures import FailureCategory

_CHUNK_BYTES = 8 * 1024 * 1024
_KEY = re.compile(r"(?!\.+(/|$))[\w.-]+(/(?!\.+(/|$))[\w.-]+)*", re.ASCII)


@dataclass(frozen=True)
class Digest:
    """What tells one file's content from another's. `sha256` is lower-case hex, `size` in bytes."""

    sha256: str
    size: int


def digest_of(content: bytes) -> Digest:
    """For whoever holds an uploaded file when it asks for the file's pipeline."""
    return Digest(hashlib.sha256(content).hexdigest(), len(content))


def download(
    store_url: str,
    key: str,
    into: IO[bytes],
    *,
    s3_endpoint_url: str | None,
    most_bytes: int | None = None,
) -> Digest | None:
    """Copy the file `key` of the store, and say what it is. None where there is no such file.

    Raises StepError for a key that could lead out of the store or may not be read, and
    (validation_error) for a file of more than `most_bytes`, of which nothing is read where the
    store tells its size; ServiceError (network_error) for a store that does not answer.
    """
    check_key(key)
    sha256, size = hashlib.sha256(), 0
    try:
        for chunk in _chunks(store_url, key, s3_endpoint_url, most_bytes):
            size += len(chunk)
            _check_size(key, size, most_bytes)
            sha256.update(chunk)
            into.write(chunk)
    except _NoSuchFileError:
        return None
    return Digest(sha256.hexdigest(), size)


def check_key(key: str) -> None:
    """Raise StepError unless the key stays within any store: names, with a slash between them.

    A store joins it to its URL, where "..", "::", "%2e" or "?" would mean something else.
    """
    if not _KEY.fullmatch(key):
        raise StepError(
            f"{key!r} is not the key of an uploaded file: it must be names of letters, digits,"
            " '.', '_' and '-', with a slash between them, such as"
            " 17/3/2026-11-24-1795520747579-scores.csv",
            FailureCategory.DATA_ERROR,
        )


def _check_size(key: str, size: int | None, most_bytes: int | None) -> None:
    if most_bytes is None or size is None or size <= most_bytes:
        return
    raise StepError(
        f"{PurePosixPath(key).name}: the file has {size:,} bytes or more, and at most"
        f" {most_bytes:,} are accepted (MAX_UPLOAD_BYTES); upload a smaller table",
        FailureCategory.VALIDATION_ERROR,
    )


class _NoSuchFileError(Exception):
    """The store was asked, and has no such file."""


def _chunks(
    store_url: str, key: str, s3_endpoint_url: str | None, most_bytes: int | None
) -> Iterator[bytes]:
    """The file's content, piece by piece. What the store says is wrong is raised as our errors."""
    options: dict[str, Any] = {}
    if store_url.startswith("s3://") and s3_endpoint_url:
        options["endpoint_url"] = s3_endpoint_url
    try:
        files, root = fsspec.core.url_to_fs(store_url, **options)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"UPLOAD_STORE_URL {store_url} cannot be opened: {error}"
        ) from None
    unreachable, misconfigured = _errors_of(store_url)
    try:
        path = f"{root.rstrip('/')}/{key}"
        _check_size(key, files.size(path), most_bytes)
        with files.open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise _NoSuchFileError from None
    except PermissionError as error:
        raise StepError(
            f"The store {store_url} does not let the uploaded file {key} be read: {error}. Check"
            " the credentials and what they allow",
            FailureCategory.PERMISSION_ERROR,
        ) from error
    except unreachable as error:
        raise ServiceError(
            f"The store {store_url}",
            f"the uploaded file {key} could not be read: {error}",
            FailureCategory.NETWORK_ERROR,
        ) from error
    except misconfigured as error:
        raise ConfigurationError(f"UPLOAD_STORE_URL {store_url} cannot be read: {error}") from error


def _errors_of(
    store_url: str,
) -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """What is raised when the store does not answer, and when its settings are wrong."""
    if not store_url.startswith("s3://"):
        return (OSError,), ()
    from botocore import exceptions

    # s3fs makes OSErrors of S3's answers, and lets its library's own errors through.
    return (OSError, exceptions.ConnectionError, exceptions.HTTPClientError), (
        exceptions.BotoCoreError,
    )
