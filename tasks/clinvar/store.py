"""Releases of ClinVar that were loaded: a Parquet file each, wherever fsspec writes them.

A release never changes once it is archived, so what is there stays true.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from mavedb_audit.errors import ConfigurationError, StepError
from mavedb_audit.failures import FailureCategory
from tasks.clinvar.variant_summary import COLUMNS


@dataclass(frozen=True)
class Record:
    """What a release says of an allele, as ClinVar writes it: a gene may be "-" or "A;B"."""

    allele_id: int
    gene_symbol: str
    clinical_significance: str
    review_status: str
    variation_id: int | None


@dataclass(frozen=True)
class Incomplete:
    """The release has the allele, but its row broke off."""

    allele_id: int


class Store:
    """The folder at `url`, such as s3://bucket/clinvar or a local path."""

    def __init__(self, url: str, *, s3_endpoint_url: str | None) -> None:
        options: dict[str, Any] = {}
        if url.startswith("s3://") and s3_endpoint_url:
            options["endpoint_url"] = s3_endpoint_url
        try:
            self._files, self._folder = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"CLINVAR_CACHE_DIR {url} cannot be opened: {error}") from None

    def path_of(self, release: str) -> str:
        return f"{self._folder.rstrip('/')}/variant_summary_{release}.parquet"

    def has(self, release: str) -> bool:
        self._files.invalidate_cache()  # another process may have put it there
        return bool(self._files.exists(self.path_of(release)))

    def put(self, release: str, alleles: pl.DataFrame, folder: Path) -> None:
        """Store the release: there is all of it, or nothing. `folder` is for a file in between."""
        written = folder / f"{release}.parquet"
        alleles.write_parquet(written, row_group_size=100_000)
        _check(written, alleles)
        path = self.path_of(release)
        aside = f"{path}.part"
        try:
            self._files.makedirs(self._folder, exist_ok=True)
            self._files.put_file(str(written), aside)
            self._files.mv(aside, path)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"CLINVAR_CACHE_DIR: {self._folder} cannot be written to: {error}"
            ) from error

    def read(self, release: str, allele_ids: Collection[int]) -> dict[int, Record | Incomplete]:
        """What the release says of those of the alleles that it has."""
        path = self.path_of(release)
        with self._files.open(path, "rb") as file:
            try:
                found = (
                    pl.scan_parquet(file)
                    .filter(pl.col("allele_id").is_in(list(allele_ids)))
                    .select(*COLUMNS)
                    .collect()
                )
            except (pl.exceptions.PolarsError, OSError) as error:
                why = str(error).partition("\n")[0]
                raise StepError(
                    f"{path} is not a release that this program has loaded: {why}. Delete it, and"
                    " it is loaded anew",
                    FailureCategory.DATA_ERROR,
                ) from error
        return {row["allele_id"]: _record(row) for row in found.iter_rows(named=True)}


def _check(written: Path, alleles: pl.DataFrame) -> None:
    """Raises StepError unless the file holds what was written."""
    schema = pl.read_parquet_schema(written)
    height = pl.scan_parquet(written).select(pl.len()).collect().item()
    if schema != alleles.schema or height != alleles.height:
        raise StepError(
            f"{written} holds {height:,} rows of {', '.join(schema)}, not the {alleles.height:,}"
            f" of {', '.join(alleles.columns)} that were written; is the disk full?",
            FailureCategory.RESOURCE_EXHAUSTION,
        )


def _record(row: dict[str, Any]) -> Record | Incomplete:
    return Incomplete(row["allele_id"]) if row["review_status"] is None else Record(**row)
