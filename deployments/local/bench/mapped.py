"""Map a score set by the mapper's answer in a file, and account for its variants; print the usage.

Run as `python -m` with: the database's URL, the ids of the score set and of the job, the file.
Nothing is committed.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import create_engine

from deployments.local.bench.mapping import Answered, ids_of_variants
from mavedb_audit.metrics import Meter


def main() -> None:
    url, score_set_id, job_id, answer = sys.argv[1:]
    engine = create_engine(url)
    with engine.connect() as connection:
        meter = Meter()
        id_of = ids_of_variants(connection, int(score_set_id))
        Answered(int(score_set_id), int(job_id), Path(answer), id_of).map_and_account(connection)
        connection.rollback()
        print(json.dumps(asdict(meter.usage())))
    engine.dispose()


if __name__ == "__main__":
    main()
