"""Where each annotation of a score set came from, as files that other programs read.

A W3C PROV document tells of sources, uploads, jobs, their attempts, people and software. Variants
are in it as collections, one for each outcome of each job, since a document of millions of entities
would serve nobody; the Parquet file beside it names each variant's collection, row by row.
"""

import hashlib
import json
import re
import tempfile
from pathlib import Path

from sqlalchemy import Connection, text

from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.provenance import details
from mavedb_audit.provenance.details import Written
from mavedb_audit.provenance.document import ParquetFile, ScoreSet, document
from mavedb_audit.views import View

__all__ = ["Exported", "export"]


class Exported(View):
    """The two files. `rows` are annotations, of each variant one for each type and version."""

    score_set_urn: str
    prov: Path
    parquet: Path
    parquet_sha256: str
    variants: int
    rows: int
    collections: int


def export(
    connection: Connection, score_set_urn: str, folder: Path, *, overwrite: bool = False
) -> Exported:
    """Write the provenance of the score set's current annotations into the folder.

    The connection is in no transaction yet: both files show one state of the database. They are
    there once they are whole, and are the same for the same state.
    Raises RequestError for an unknown score set, for files that are there already unless they may
    be overwritten, and for a folder that cannot be written to.
    """
    connection.execution_options(isolation_level="REPEATABLE READ")
    with connection.begin():
        score_set = _find(connection, score_set_urn)
        name = file_name(score_set_urn)
        prov, parquet = folder / f"{name}.prov.json", folder / f"{name}.annotations.parquet"
        if not overwrite:
            _require_none(prov, parquet)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as unfinished:
                table, tree = Path(unfinished, parquet.name), Path(unfinished, prov.name)
                written = details.write(connection, score_set.id, score_set.urn, table)
                digest = _sha256(table)
                file = ParquetFile(parquet.name, digest, written.rows)
                content = document(connection, score_set, written.collections, file)
                tree.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
                if not overwrite:
                    _require_none(prov, parquet)
                table.replace(parquet)
                tree.replace(prov)
        except OSError as error:
            raise RequestError(f"Cannot write to {folder}: {error.strerror or error}") from error
    return _exported(score_set, prov, parquet, digest, written)


def file_name(urn: str) -> str:
    """The URN as the beginning of a file's name, which no URN can lead out of its folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", urn)


def _exported(
    score_set: ScoreSet, prov: Path, parquet: Path, digest: str, written: Written
) -> Exported:
    return Exported(
        score_set_urn=score_set.urn,
        prov=prov,
        parquet=parquet,
        parquet_sha256=digest,
        variants=score_set.variants,
        rows=written.rows,
        collections=len(written.collections),
    )


def _find(connection: Connection, urn: str) -> ScoreSet:
    row = connection.execute(
        text(
            """
            SELECT id, urn, title,
                   (SELECT count(*) FROM variants WHERE scoreset_id = scoresets.id) AS variants
              FROM scoresets WHERE urn = :urn
            """
        ),
        {"urn": urn},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no score set {urn}")
    return ScoreSet(*row)


def _require_none(*files: Path) -> None:
    there = [str(file) for file in files if file.exists()]
    if there:
        raise RequestError(
            f"There is already {' and '.join(there)}: choose another folder, or --overwrite"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
