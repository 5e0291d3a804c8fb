"""NCBI's archive of ClinVar: one gzipped variant_summary file a month, on a static file server."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO

import httpx

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.bounds import AnswerTooLargeError, AnswerTooSlowError
from tasks.clients.http import Client, excerpt, raise_for_status, transport_error

SERVICE = "ClinVar archive"

#: A release of 2026 has half a gigabyte.
_MOST_BYTES = 4 * 1024**3
_LONGEST_SECONDS = 4 * 3600.0
_GZIP_MAGIC = b"\x1f\x8b"
#: How often a connection that broke off is taken up again where it ended.
_RESUMPTIONS = 3
#: How many months back the newest release is looked for.
_MONTHS_BACK = 12

#: Told the bytes so far, and how many there will be where the server says so.
OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Release:
    """A month of ClinVar. As text YYYY-MM; MaveDB writes its `version` as MM_YYYY."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year}-{self.month:02d}"

    @property
    def version(self) -> str:
        return f"{self.month:02d}_{self.year}"


@dataclass(frozen=True)
class Archive:
    """Where the releases lie: `url` is the folder's. Time-outs are in seconds, for each piece."""

    url: str
    connect_timeout: float
    read_timeout: float

    def download(self, release: Release, file: BinaryIO, on_bytes: OnBytes) -> None:
        """Write the release's gz file into `file`, which is empty.

        Raises ServiceError: data_error when there is no such release, else one worth another try.
        """
        with self._client() as client:
            for url in self._places(release):
                if _fetch(client, url, file, on_bytes):
                    _check_magic(file)
                    return
        raise ServiceError(
            SERVICE,
            f"there is no release {release}: it is not published yet, or was left out. Looked at "
            + " and ".join(self._places(release)),
            FailureCategory.DATA_ERROR,
            status_code=404,
        )

    def newest(self, today: date) -> Release:
        """The newest release that is published."""
        with self._client() as client:
            for months_ago in range(_MONTHS_BACK):
                year, month = divmod(today.year * 12 + today.month - 1 - months_ago, 12)
                release = Release(year, month + 1)
                if any(_is_there(client, url) for url in self._places(release)):
                    return release
        raise ServiceError(
            SERVICE,
            f"there is no release of the last {_MONTHS_BACK} months in {self.url};"
            " check CLINVAR_ARCHIVE_URL.",
            FailureCategory.CONFIGURATION_ERROR,
        )

    def _places(self, release: Release) -> Iterator[str]:
        """At first a release lies in the folder itself; later NCBI moves it to its year's."""
        name = f"variant_summary_{release}.txt.gz"
        base = self.url.rstrip("/")
        yield f"{base}/{name}"
        yield f"{base}/{release.year}/{name}"

    def _client(self) -> httpx.Client:
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"CLINVAR_ARCHIVE_URL is not a URL: {error}") from None
        # Compressing the gz file once more would save nothing.
        return Client(
            SERVICE,
            timeout=httpx.Timeout(self.read_timeout, connect=self.connect_timeout),
            headers={"Accept-Encoding": "identity"},
            most_bytes=_MOST_BYTES,
            longest_seconds=_LONGEST_SECONDS,
        )


def _is_there(client: httpx.Client, url: str) -> bool:
    try:
        response = client.head(url)
    except httpx.RequestError as error:
        raise transport_error(SERVICE, error) from error
    if response.status_code == 404:
        return False
    _raise_for_status(response)
    return True


def _fetch(client: httpx.Client, url: str, file: BinaryIO, on_bytes: OnBytes) -> bool:
    """Whether there is a file at `url`; then `file` holds all of it."""
    validator: str | None = None
    resumptions = 0
    while True:
        begun_at = file.tell()
        headers = {"Range": f"bytes={begun_at}-", "If-Range": validator} if validator else {}
        try:
            with client.stream("GET", url, headers=headers) as response:
                if response.status_code == 404:
                    return False
                if response.is_error:
                    response.read()
                _raise_for_status(response)
                if response.status_code != 206:
                    file.seek(0)
                    file.truncate()
                elif not response.headers.get("Content-Range", "").startswith(f"bytes {begun_at}-"):
                    raise ServiceError(
                        SERVICE,
                        "sent another part of the file than it was asked for.",
                        FailureCategory.NETWORK_ERROR,
                    )
                validator = _validator(response)
                length = response.headers.get("Content-Length")
                total = file.tell() + int(length) if length else None
                # As it was sent, should anybody have called the gz file a gzip-encoded text.
                for piece in response.iter_raw():
                    file.write(piece)
                    on_bytes(file.tell(), total)
                return True
        except (AnswerTooLargeError, AnswerTooSlowError) as error:
            raise transport_error(SERVICE, error) from error
        except httpx.RequestError as error:
            resumptions += 1
            brought_something = file.tell() > begun_at
            if validator is None or not brought_something or resumptions > _RESUMPTIONS:
                raise transport_error(SERVICE, error) from error


def _validator(response: httpx.Response) -> str | None:
    """What tells that the file is still the same one: the strong ETag, or when it was changed."""
    etag: str | None = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    modified: str | None = response.headers.get("Last-Modified")
    return modified


def _raise_for_status(response: httpx.Response) -> None:
    try:
        raise_for_status(SERVICE, response)
    except ServiceError as error:
        if response.status_code == 403:  # an address that is blocked for a while
            error.category = FailureCategory.SERVICE_UNAVAILABLE
        raise


def _check_magic(file: BinaryIO) -> None:
    file.seek(0)
    beginning = file.read(2_000)
    if not beginning.startswith(_GZIP_MAGIC):
        raise ServiceError(
            SERVICE,
            f"sent something else than a gzip file: {excerpt(beginning.decode(errors='replace'))}",
            FailureCategory.SERVICE_UNAVAILABLE,
        )
