"""How fast a mapper's answer becomes rows, beside a COPY of the same rows, and in what memory."""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import (
    Figure,
    Pair,
    each_below,
    figure_of,
    ratio_at_least,
)
from deployments.local.bench.rows import (
    insert_bench_job,
    insert_bench_score_set,
    insert_bench_variants,
    measure,
    seconds_of,
    vacuum,
)
from deployments.local.score_set import generate, synthetic_target
from deployments.local.simulators.mapper_envelope import as_json, generation_b
from deployments.local.simulators.mapper_variants import (
    Target,
    TargetVariant,
    map_variants,
    reference_sequences,
)
from mavedb_audit import accounts
from mavedb_audit.bulk import copy_rows
from mavedb_audit.pipelines import AnnotationType, JobType
from tasks.clients.vrs_mapper import MappedScore, read_answer
from tasks.map_variants_for_score_set import MAPPING_COLUMNS, Findings, replace_mapping

_LEAST = 0.4
_MOST_MEGABYTES = 1_000.0
_PAIRS_WITH_STATUSES = 3
_SEED = 1
_VARIANTS_A_CODON = 50
_MAPPED, _STATUSES = "mapped_variants", "variant_annotation_status"
_STATUS_COLUMNS = (
    "variant_id, annotation_type, version, status, error_message, failure_category, {data},"
    " current, job_run_id"
)
_ALONE = "deployments.local.bench.mapped"


@dataclass(frozen=True)
class Answered:
    """A score set, a job that maps it, the file of the mapper's answer, and the variants' ids by
    their URNs."""

    score_set_id: int
    job_id: int
    answer: Path
    id_of: Mapping[str, int]

    def map(self, connection: Connection) -> None:
        """From the answer's bytes to rows of mapped_variants."""
        self._map(connection)

    def map_and_account(self, connection: Connection) -> None:
        """What the step does between the mapper's answer and its commit."""
        findings = self._map(connection)
        accounts.write(
            connection,
            job_id=self.job_id,
            score_set_id=self.score_set_id,
            annotation_type=AnnotationType.VRS_MAPPING,
            version=findings.vrs_version,
            statuses=map(findings.status, self.id_of.values()),
        )

    def _map(self, connection: Connection) -> Findings:
        with self.answer.open("rb") as body:
            return replace_mapping(connection, self.score_set_id, read_answer(body), self.id_of)


def mapping(engine: Engine, variants: int) -> list[Figure]:
    """From the bytes of the mapper's answer to committed rows, without and with their statuses."""
    with _answered(engine, variants) as answered:
        memory = _peak_memory(engine, answered)
        rows = _rows(answered)
        return [
            measure(
                "mapped variants",
                engine,
                answered.map,
                lambda connection: _copy_mapping(connection, rows),
                variants,
                _MAPPED,
                ratio_at_least(_LEAST),
            ),
            _with_statuses(engine, answered, rows),
            memory,
        ]


def seconds_to_map(engine: Engine, variants: int) -> float:
    """From the bytes of the mapper's answer to committed rows, which are deleted after it."""
    with _answered(engine, variants) as answered:
        return seconds_of(engine, answered.map, _MAPPED)


@contextmanager
def _answered(engine: Engine, variants: int) -> Iterator[Answered]:
    urn = f"tmp:{uuid4()}"
    sequence = synthetic_target(_SEED, 1 + variants // _VARIANTS_A_CODON)
    with engine.begin() as connection:
        score_set_id = insert_bench_score_set(connection, urn, sequence)
        insert_bench_variants(connection, score_set_id, variants)
        id_of = ids_of_variants(connection, score_set_id)
        job_id = insert_bench_job(connection, JobType.VARIANT_MAPPING, "map_variants_for_score_set")
    vacuum(engine, "variants")
    with tempfile.TemporaryDirectory(prefix="mavedb-bench-") as folder:
        answer = Path(folder) / "answer.json"
        _write_answer(answer, urn, sequence, variants)
        yield Answered(score_set_id, job_id, answer, id_of)


def ids_of_variants(connection: Connection, score_set_id: int) -> dict[str, int]:
    rows = connection.execute(
        text("SELECT urn, id FROM variants WHERE scoreset_id = :id"), {"id": score_set_id}
    )
    return {row.urn: row.id for row in rows}


def _write_answer(file: Path, urn: str, sequence: str, variants: int) -> None:
    """As the simulated mapper answers about a generated score set."""
    scores, _ = generate(_SEED, variants, sequence)
    targets = [Target("bench", "dna", sequence)]
    mapped = [
        TargetVariant(f"{urn}#{n}", row["hgvs_nt"], row["hgvs_pro"], float(row["score"]))
        for n, row in enumerate(csv.DictReader(scores.splitlines()), start=1)
    ]
    head = generation_b(urn, reference_sequences(mapped, targets))
    with file.open("w") as answer:
        answer.writelines(as_json(head, map_variants(mapped, targets)))


def _rows(answered: Answered) -> list[tuple[Any, ...]]:
    """What mapping writes, made beforehand."""
    today = datetime.now(UTC).date()

    def row(score: MappedScore, mapper_version: str) -> tuple[Any, ...]:
        assert score.variant_urn is not None  # every record of the simulator's names a variant
        return (
            answered.id_of[score.variant_urn],
            json.dumps(score.pre_mapped) if score.pre_mapped else None,
            json.dumps(score.post_mapped) if score.post_mapped else None,
            score.vrs_version,
            score.error_message,
            today,
            today,
            mapper_version,
            True,
        )

    with answered.answer.open("rb") as body:
        result = read_answer(body)
        return [row(score, result.mapper_version) for score in result.scores()]


def _copy_mapping(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    copy_rows(connection, MAPPING_COLUMNS, rows)


def _with_statuses(engine: Engine, answered: Answered, rows: list[tuple[Any, ...]]) -> Figure:
    """Beside a COPY of both kinds of rows."""
    pairs = []
    for _ in range(_PAIRS_WITH_STATUSES):
        ours = seconds_of(engine, answered.map_and_account, _MAPPED)
        statuses = _take_statuses(engine, answered.job_id)

        def copy(connection: Connection, statuses: list[Any] = statuses) -> None:
            _copy_mapping(connection, rows)
            columns = _STATUS_COLUMNS.format(data="success_data")
            copy_rows(connection, f"{_STATUSES} ({columns})", statuses)

        baseline = seconds_of(engine, copy, _MAPPED)
        _take_statuses(engine, answered.job_id)
        pairs.append(Pair(len(rows) / ours, len(rows) / baseline))
    return figure_of("mapped variants and their statuses", "rows/s", pairs, None)


def _take_statuses(engine: Engine, job_id: int) -> list[Any]:
    """Take the job's statuses out of their table, and return them."""
    columns = _STATUS_COLUMNS.format(data="CAST(success_data AS text)")
    query = text(f"DELETE FROM {_STATUSES} WHERE job_run_id = :job_id RETURNING {columns}")
    with engine.begin() as connection:
        taken = list(connection.execute(query, {"job_id": job_id}))
    vacuum(engine, _STATUSES)
    return taken


def _peak_memory(engine: Engine, answered: Answered) -> Figure:
    """Of a process that maps and accounts, beside the size of the answer.

    The peak of a process counts that of the one that started it: a shell's is small.
    """
    url = engine.url.render_as_string(hide_password=False)
    ids = (str(answered.score_set_id), str(answered.job_id))
    ended = subprocess.run(
        ["sh", "-c", '"$@"; exit', "sh", sys.executable, "-m", _ALONE, url, *ids, answered.answer],
        stdout=subprocess.PIPE,
        check=True,
    )
    vacuum(engine, _MAPPED, _STATUSES)
    peak_bytes = json.loads(ended.stdout)["peak_memory_bytes"]
    return figure_of(
        "peak memory of mapping, and its answer's size",
        "MB",
        [Pair(peak_bytes / 1e6, answered.answer.stat().st_size / 1e6)],
        each_below(_MOST_MEGABYTES, "MB"),
    )
