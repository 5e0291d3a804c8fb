"""Uploaded score and count files, wherever fsspec finds them: a folder, or S3."""

from typing import Any

import fsspec

from mavedb_audit.errors import ConfigurationError, StepError
from mavedb_audit.failures import FailureCategory


def read_upload(store_url: str, key: str, *, s3_endpoint_url: str | None) -> bytes:
    """The whole file `key` of the store. Raises StepError where there is none."""
    options: dict[str, Any] = {}
    if store_url.startswith("s3://") and s3_endpoint_url:
        options["endpoint_url"] = s3_endpoint_url
    url = f"{store_url.rstrip('/')}/{key}"
    try:
        with fsspec.open(url, "rb", **options) as file:
            content: bytes = file.read()
    except FileNotFoundError:
        raise StepError(
            f"The uploaded file {key} is not in the store {store_url}: upload it again",
            FailureCategory.DATA_ERROR,
        ) from None
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"UPLOAD_STORE_URL {store_url} cannot be opened: {error}"
        ) from None
    return content
