"""How fast variants are created, beside a COPY of the same rows."""

from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from deployments.local.bench.figures import Figure, ratio_at_least
from deployments.local.bench.rows import insert_bench_score_set, measure
from deployments.local.score_set import generate, synthetic_target
from mavedb_audit.bulk import copy_rows
from tasks.create_variants_for_score_set import VARIANT_COLUMNS, replace_variants
from tasks.upload.reading import read_table
from tasks.upload.rules import ScoreTables, validate_tables
from tasks.upload.rules import Target as UploadTarget
from tasks.upload.variants import variant_rows

_SEED = 1


def creation(engine: Engine, variants: int, codons: int) -> Figure:
    """From a score file's bytes to committed variants, beside a COPY of the same rows."""
    sequence = synthetic_target(_SEED, codons)
    scores_csv, _ = generate(_SEED, variants, sequence)
    content = scores_csv.encode()
    target = UploadTarget("bench", None, sequence, "dna", None, is_base_editor=False)
    with engine.begin() as connection:
        score_set_id = insert_bench_score_set(connection, "tmp:bench-creation", sequence)

    def validated() -> ScoreTables:
        return validate_tables(
            read_table(content, "scores.csv"),
            None,
            [target],
            scores_file="scores.csv",
            counts_file=None,
            score_columns_metadata=None,
            count_columns_metadata=None,
        )

    def ours(connection: Connection) -> None:
        replace_variants(connection, score_set_id, validated())

    today = datetime.now(UTC).date()
    rows = [
        (*row, score_set_id, today, today)
        for row in variant_rows(validated(), "tmp:bench-creation")
    ]

    def baseline(connection: Connection) -> None:
        copy_rows(connection, VARIANT_COLUMNS, rows)

    return measure(
        "variant creation", engine, ours, baseline, variants, "variants", ratio_at_least(0.15)
    )
