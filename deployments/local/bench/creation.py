"""Create a score set's variants from a file, or only parse it and COPY its rows; print the usage.

Run as `python -m` with: create or copy, the database's URL, the score set's id, the file of the
scores and that of the target's DNA.
"""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from sqlalchemy import Connection, create_engine, text

from mavedb_audit.metrics import Meter
from tasks.create_variants_for_score_set import copy_variants, replace_variants
from tasks.upload.reading import read_table
from tasks.upload.rules import ScoreTables, Target, validate_tables


def main() -> None:
    what, url, score_set_id, scores, target = sys.argv[1:]
    content, sequence = Path(scores).read_bytes(), Path(target).read_text()
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        meter = Meter()
        if what == "create":
            _create(connection, int(score_set_id), content, sequence)
        else:
            _copy(connection, int(score_set_id), content)
        connection.commit()
        print(json.dumps(asdict(meter.usage())))
    engine.dispose()


def _create(connection: Connection, score_set_id: int, content: bytes, sequence: str) -> None:
    tables = validate_tables(
        read_table(content, "scores.csv"),
        None,
        [Target("bench", None, sequence, "dna", None, is_base_editor=False)],
        scores_file="scores.csv",
        counts_file=None,
        score_columns_metadata=None,
        count_columns_metadata=None,
    )
    replace_variants(connection, score_set_id, tables)


def _copy(connection: Connection, score_set_id: int, content: bytes) -> None:
    scores = pl.read_csv(content).with_columns(hgvs_splice=pl.lit(None, dtype=pl.String))
    tables = ScoreTables(scores, None, {}, "hgvs_nt")
    today = datetime.now(UTC).date()
    copy_variants(connection, score_set_id, f"tmp:{score_set_id}", today, tables)


if __name__ == "__main__":
    main()
