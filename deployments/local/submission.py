"""What MaveDB's API does when a curator submits a score set: rows, files, and the request."""

import csv
import io
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import fsspec
from fqfa.fasta.fasta import parse_fasta_records
from fqfa.util.infer import infer_sequence_type
from sqlalchemy import Connection, text

from mavedb_audit.errors import MaveDBAuditError
from mavedb_audit.recorder.plans import PlannedPipeline
from mavedb_audit.trigger import request_pipeline

PIPELINE = "validate_map_annotate_score_set"
_FASTA_HEADER = re.compile(
    r"(?P<name>.*?)(\s+(?P<sequence_type>dna|protein))?(\s+(?P<urn>urn:mavedb:\S+))?"
)


class SubmissionError(MaveDBAuditError):
    """A file cannot be submitted; the message names it, and what to do."""


@dataclass(frozen=True)
class Submission:
    """A score set as a curator submits it. `sequence_type` is dna or protein."""

    urn: str
    title: str
    target_name: str
    sequence: str
    sequence_type: str
    scores_csv: bytes
    counts_csv: bytes | None


def read_export(scores: Path, counts: Path | None, target: Path) -> Submission:
    """A score set from files that MaveDB exported, and its one target's sequence as FASTA.

    The FASTA header is the target's name, and after it, where known, `dna` or `protein`. The
    exported column `accession` is dropped: MaveDB numbers the variants itself.
    """
    name, sequence, sequence_type = _read_target(target)
    scores_csv, urn = _without_accessions(_read(scores))
    return Submission(
        urn=urn or f"tmp:{uuid4()}",
        title=f"{name}, from {scores.name}",
        target_name=name,
        sequence=sequence,
        sequence_type=sequence_type,
        scores_csv=scores_csv,
        counts_csv=_without_accessions(_read(counts))[0] if counts else None,
    )


def insert_score_set(
    connection: Connection,
    *,
    urn: str,
    title: str,
    target_name: str,
    sequence: str,
    sequence_type: str,
    user: str,
) -> tuple[int, int]:
    """The ids of the score set `urn` and of its user, with all rows that they need.

    A score set of that URN that is there already stays, with the target given here: its curator
    uploads again.
    """
    user_id = _insert_user(connection, user)
    known = {"urn": urn, "title": title, "user_id": user_id, "today": datetime.now(UTC).date()}
    target = {
        "target_name": target_name,
        "sequence": sequence.upper(),
        "sequence_type": sequence_type,
        "today": known["today"],
    }
    there = connection.execute(
        text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": urn}
    ).scalar_one_or_none()
    if there is not None:
        connection.execute(_UPDATE_TARGET, {"score_set_id": there, **target})
        return there, user_id
    licence_id = connection.execute(_INSERT_LICENCE, {"today": known["today"]}).scalar_one()
    experiment_urn = _parent_urn(urn)
    experiment_set_id = connection.execute(
        _INSERT_EXPERIMENT_SET, {**known, "urn": _parent_urn(experiment_urn)}
    ).scalar_one()
    experiment_id = connection.execute(
        _INSERT_EXPERIMENT,
        {**known, "urn": experiment_urn, "experiment_set_id": experiment_set_id},
    ).scalar_one()
    score_set_id: int = connection.execute(
        _INSERT_SCORE_SET, {**known, "licence_id": licence_id, "experiment_id": experiment_id}
    ).scalar_one()
    connection.execute(_INSERT_TARGET, {"score_set_id": score_set_id, **target})
    return score_set_id, user_id


def upload(
    store_url: str, score_set_id: int, user_id: int, scores_csv: bytes, counts_csv: bytes | None
) -> tuple[str, str | None]:
    """Put the files into the store, and give their keys there."""
    now = datetime.now(UTC)
    stem = f"{score_set_id}/{user_id}/{now:%Y-%m-%d}-{int(now.timestamp() * 1000)}"
    files = {f"{stem}-scores.csv": scores_csv}
    if counts_csv is not None:
        files[f"{stem}-counts.csv"] = counts_csv
    for key, content in files.items():
        with fsspec.open(f"{store_url.rstrip('/')}/{key}", "wb", auto_mkdir=True) as file:
            file.write(content)
    keys = list(files)
    return keys[0], keys[1] if counts_csv is not None else None


def submit(
    connection: Connection,
    score_set_id: int,
    user_id: int,
    scores_file_key: str,
    counts_file_key: str | None,
) -> PlannedPipeline:
    """Mark the score set as processing and ask for its pipeline. The caller commits both."""
    connection.execute(
        text("UPDATE scoresets SET processing_state = 'processing' WHERE id = :id"),
        {"id": score_set_id},
    )
    return request_pipeline(
        connection,
        PIPELINE,
        {
            "score_set_id": score_set_id,
            "updater_id": user_id,
            "scores_file_key": scores_file_key,
            "counts_file_key": counts_file_key,
            "score_columns_metadata": {},
            "count_columns_metadata": {},
        },
        user_id=user_id,
        correlation_id=uuid4().hex,
    )


def publish(connection: Connection, score_set_id: int, user_id: int) -> PlannedPipeline:
    """Make the score set public under a URN that stays, and ask for what follows from that."""
    urn = connection.execute(text(_PUBLISH), {"id": score_set_id}).scalar_one()
    connection.execute(text(_RENAME_VARIANTS), {"id": score_set_id, "urn": urn})
    return request_pipeline(
        connection,
        "publish_score_set",
        {"score_set_id": score_set_id},
        user_id=user_id,
        correlation_id=uuid4().hex,
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SubmissionError(f"{file} cannot be read: {error.strerror}.") from None


def _read_target(file: Path) -> tuple[str, str, str]:
    try:
        records = list(parse_fasta_records(io.StringIO(_read(file).decode())))
    except ValueError as error:
        raise SubmissionError(f"{file} is not FASTA: {error}.") from None
    if len(records) != 1:
        raise SubmissionError(
            f"{file} holds {len(records)} sequences: it must hold the one target's, after a line "
            "such as >BRCA1 dna"
        )
    header, sequence = records[0]
    parts = _FASTA_HEADER.fullmatch(header.strip())
    assert parts is not None  # every part may be missing
    sequence_type = parts["sequence_type"] or infer_sequence_type(sequence)
    if sequence_type not in ("dna", "protein"):
        raise SubmissionError(f"{file} holds neither a DNA nor a protein sequence.")
    return parts["name"] or file.stem, sequence, sequence_type


def _without_accessions(content: bytes) -> tuple[bytes, str | None]:
    """The table without its column `accession`, and the score set's URN that stood there.

    Whether the rest is a good table, and UTF-8, is for the pipeline to say.
    """
    lines = io.StringIO(content.decode(errors="surrogateescape"), newline="")
    rows = csv.reader(lines)
    header = next(rows, [])
    if "accession" not in header:
        return content, None
    column = header.index("accession")
    kept, urn = io.StringIO(newline=""), None
    writer = csv.writer(kept, lineterminator="\n")
    writer.writerow(header[:column] + header[column + 1 :])
    for row in rows:
        if urn is None and len(row) > column:
            urn = row[column].partition("#")[0] or None
        writer.writerow(row[:column] + row[column + 1 :])
    return kept.getvalue().encode(errors="surrogateescape"), urn


def _parent_urn(urn: str) -> str:
    """urn:mavedb:00000001-a-1 -> urn:mavedb:00000001-a -> urn:mavedb:00000001."""
    return urn.rpartition("-")[0] if urn.startswith("urn:mavedb:") else f"tmp:{uuid4()}"


def _insert_user(connection: Connection, user: str) -> int:
    user_id: int = connection.execute(
        text(
            """
            INSERT INTO users (username, first_name, is_superuser, is_staff, is_active, email)
            VALUES (:user, :user, false, false, true, CAST(:user AS varchar) || '@example.org')
            ON CONFLICT (username) DO UPDATE SET is_active = true
            RETURNING id
            """
        ),
        {"user": user},
    ).scalar_one()
    return user_id


_PUBLISH = """
    UPDATE scoresets
       SET private = false, published_date = CURRENT_DATE,
           urn = CASE WHEN urn LIKE 'tmp:%'
                      THEN 'urn:mavedb:' || lpad(CAST(experiment_id AS text), 8, '0') || '-a-' || id
                      ELSE urn END
     WHERE id = :id
    RETURNING urn
"""
_RENAME_VARIANTS = """
    UPDATE variants SET urn = CAST(:urn AS text) || '#' || split_part(urn, '#', 2)
     WHERE scoreset_id = :id
"""
_INSERT_LICENCE = text(
    """
    INSERT INTO licenses (long_name, short_name, text, link, version, active,
                          creation_date, modification_date)
    VALUES ('CC0 (Public domain)', 'CC0', 'CC0 1.0 Universal',
            'https://creativecommons.org/publicdomain/zero/1.0/', '1.0', true, :today, :today)
    ON CONFLICT (short_name) DO UPDATE SET active = true
    RETURNING id
    """
)
_INSERT_EXPERIMENT_SET = text(
    """
    INSERT INTO experiment_sets (urn, extra_metadata, private, approved, num_experiments,
                                 created_by_id, modified_by_id, creation_date, modification_date)
    VALUES (:urn, '{}', true, false, 1, :user_id, :user_id, :today, :today)
    ON CONFLICT (urn) DO UPDATE SET num_experiments = experiment_sets.num_experiments + 1
    RETURNING id
    """
)
_INSERT_EXPERIMENT = text(
    """
    INSERT INTO experiments (urn, title, short_description, abstract_text, method_text,
                             extra_metadata, private, approved, num_scoresets, experiment_set_id,
                             created_by_id, modified_by_id, creation_date, modification_date)
    VALUES (:urn, :title, :title, :title, '', '{}', true, false, 1, :experiment_set_id,
            :user_id, :user_id, :today, :today)
    ON CONFLICT (urn) DO UPDATE SET num_scoresets = experiments.num_scoresets + 1
    RETURNING id
    """
)
_INSERT_SCORE_SET = text(
    """
    INSERT INTO scoresets (urn, title, short_description, abstract_text, method_text,
                           extra_metadata, dataset_columns, normalised, private, approved,
                           num_variants, processing_state, experiment_id, licence_id,
                           created_by_id, modified_by_id, creation_date, modification_date)
    VALUES (:urn, :title, :title, :title, '', '{}', '{}', false, true, false, 0, 'incomplete',
            :experiment_id, :licence_id, :user_id, :user_id, :today, :today)
    RETURNING id
    """
)
_INSERT_TARGET = text(
    """
    WITH own AS (
      INSERT INTO target_sequences (sequence_type, sequence, label,
                                    creation_date, modification_date)
      VALUES (:sequence_type, :sequence, :target_name, :today, :today)
      RETURNING id
    )
    INSERT INTO target_genes (name, category, scoreset_id, target_sequence_id,
                              creation_date, modification_date)
    SELECT :target_name, 'protein_coding', :score_set_id, own.id, :today, :today FROM own
    """
)
_UPDATE_TARGET = text(
    """
    WITH target AS (
      UPDATE target_genes SET name = :target_name, modification_date = :today
       WHERE scoreset_id = :score_set_id
      RETURNING target_sequence_id
    )
    UPDATE target_sequences
       SET sequence_type = :sequence_type, sequence = :sequence, label = :target_name,
           modification_date = :today
      FROM target WHERE target_sequences.id = target.target_sequence_id
    """
)
