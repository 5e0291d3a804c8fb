"""One score set that meets all that went wrong with MaveDB's earlier jobs, part after part.

Each part asks the real service, worker and simulators, and gives what was seen, since the next part
changes it. test_known_defects.py holds them together.
"""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from prefect.client.orchestration import SyncPrefectClient
from rich.console import Console
from sqlalchemy import Row

from deployments.local import processes
from deployments.local.progress import follow
from mavedb_audit import operations
from tests.support import MaveDB, Submitted, brca1
from tests.support_mapper import mapper_at_work
from tests.support_processes import attempts, kill, pid_of, running_attempt

MAP = "map_variants_for_score_set"
REGISTER = "submit_score_set_mappings_to_car"
LINK = "link_gnomad_variants"
PUBLISHED = "refresh_published_variants_view"
VARIANTS = 24
PROTEIN = "NP_009225.1:p.Met1Val"


#: (annotation type, status, reason) -> number of variants.
Account = Mapping[tuple[str, str, str | None], int]


class Ended(NamedTuple):
    """A pipeline at its end: its status, its jobs, and the account of its score set."""

    status: str
    jobs: Mapping[str, Row[Any]]
    account: Account


def table(variants: int, seed: int) -> tuple[str, str]:
    """Scores and counts whose rows are in another order, some of them without hgvs_pro."""
    tables = []
    for rows in (csv.splitlines() for csv in brca1(variants, seed)):
        header, *cells = [row.split(",") for row in rows]
        for row in cells[:4]:
            row[1] = ""
        tables.append([header, *cells])
    scores, counts = tables
    counts = [counts[0], *reversed(counts[1:])]
    return as_csv(scores), as_csv(counts)


def as_csv(rows: list[list[str]]) -> str:
    return "".join(f"{','.join(row)}\n" for row in rows)


@dataclass(frozen=True)
class Uploaded:
    """A new score set. `was_dispatched` before any service ran again."""

    submitted: Submitted
    was_dispatched: bool


def upload_that_nobody_hears_of(mavedb: MaveDB) -> Uploaded:
    """No service runs when the pipeline is asked for: the notification is lost."""
    kill(pid_of(mavedb, "audit"))
    try:
        submitted = mavedb.submit(*table(VARIANTS, 51))
        return Uploaded(submitted, mavedb.dispatched_flow_run(submitted) is not None)
    finally:
        processes.restart(mavedb.stack.state, "audit")


@dataclass(frozen=True)
class Watched:
    """What was seen while its variants were being mapped, and once that was cancelled.

    `shown` is what the demo shows, `mapping_state` what MaveDB's UI does; `small` is how another
    pipeline ended meanwhile.
    """

    shown: str
    mapping_state: str
    small: str
    status: str
    job_status: str
    mapped: int


def watch_and_cancel(mavedb: MaveDB, client: SyncPrefectClient, submitted: Submitted) -> Watched:
    with mapper_at_work(mavedb, submitted.score_set_urn) as mapper:
        mapper.wait_until_it_has_read()
        attempt = running_attempt(mavedb, submitted, MAP)
        shown = shown_now(mavedb, submitted)
        mapping_state = mavedb.value(
            "SELECT mapping_state FROM scoresets WHERE id = :id", id=submitted.score_set_id
        )
        small = mavedb.wait_for(mavedb.request(PUBLISHED, submitted))
        assert running_attempt(mavedb, submitted, MAP).id == attempt.id
        operations.cancel(client, submitted.pipeline_urn, actor="alice", reason=None)
        mapper.answer()  # before anybody has ended the step
        status = mavedb.wait_for(submitted)
    mapped = mavedb.value(
        """
        SELECT count(*) FROM mapped_variants JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id
        """,
        id=submitted.score_set_id,
    )
    return Watched(
        shown,
        mapping_state,
        small,
        status,
        mavedb.jobs(submitted)[MAP].status,
        mapped,
    )


class _Seen(Exception):  # noqa: N818 - no error
    """Enough was shown."""


def shown_now(mavedb: MaveDB, submitted: Submitted) -> str:
    """What somebody who looks at the pipeline sees now, with the seconds that each step took."""
    console = Console(file=io.StringIO(), force_terminal=True, width=300, no_color=True)

    def enough() -> None:
        raise _Seen

    with suppress(_Seen):
        follow(mavedb.engine, submitted.pipeline_id, console, enough)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@dataclass(frozen=True)
class Mended:
    """The pipeline when nothing was mapped, and when it was retried.

    `words_kept` is of how many variants the mapper's own words were kept; `attempts` are those of
    the mapping; `accessions` are UniProt's, by target.
    """

    nothing_mapped: Ended
    words_kept: int
    retried: Ended
    attempts: Sequence[Row[Any]]
    accessions: Mapping[str, str | None]


def map_nothing_and_try_again(
    mavedb: MaveDB, client: SyncPrefectClient, submitted: Submitted
) -> Mended:
    """Restarted at once, then retried at once, with a mapper that gets better and better."""
    urn = submitted.pipeline_urn
    mapper, clingen = mavedb.stack.mapper_url, mavedb.stack.clingen_url
    with mavedb.fault(mapper, "all_failed", times=1):
        operations.restart(client, urn, actor="alice", reason=None)
        nothing_mapped = ending(mavedb, submitted)
    words_kept = mavedb.value(
        """
        SELECT count(*) FROM mapped_variants JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND current AND error_message IS NOT NULL
        """,
        id=submitted.score_set_id,
    )
    with (
        mavedb.fault(mapper, "status", status=500, times=1),
        mavedb.fault(mapper, "drop_variants", times=1),
        mavedb.fault(clingen, "rejected", match="file=hgvs", times=1),
        mavedb.fault(mavedb.stack.simulator_urls["uniprot"], "ambiguous", match="results"),
    ):
        operations.retry_failed(client, urn, actor="alice", reason=None)
        retried = ending(mavedb, submitted)
    targets = mavedb.rows(
        "SELECT name, uniprot_id_from_mapped_metadata FROM target_genes WHERE scoreset_id = :id",
        id=submitted.score_set_id,
    )
    return Mended(
        nothing_mapped,
        words_kept,
        retried,
        attempts(mavedb, submitted, MAP),
        {row[0]: row[1] for row in targets},
    )


@dataclass(frozen=True)
class Refused:
    """A new file that was refused, `errors` as the score set shows them; and a registry's outage.

    `allele_ids` is how many variants have one, before and after the outage.
    """

    upload: Ended
    errors: Mapping[str, Any]
    outage: Ended
    allele_ids: tuple[int, int]


def refuse_a_file_and_miss_the_registry(mavedb: MaveDB, submitted: Submitted) -> Refused:
    rows = [row.split(",") for row in table(VARIANTS, 51)[0].splitlines()]
    rows[3][rows[0].index("SE")] = "inf"
    before = number_with_allele_id(mavedb, submitted)
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=503):
        bad = mavedb.submit(as_csv(rows), urn=submitted.score_set_urn)
        unanswered = mavedb.request(REGISTER, submitted)
        outage, upload = ending(mavedb, unanswered), ending(mavedb, bad)
    errors = mavedb.value(
        "SELECT processing_errors FROM scoresets WHERE id = :id", id=submitted.score_set_id
    )
    return Refused(upload, errors, outage, (before, number_with_allele_id(mavedb, submitted)))


@dataclass(frozen=True)
class Annotated:
    """The score set annotated again, and one variant, of a protein, among its others."""

    ended: Ended
    registering: Sequence[Row[Any]]
    protein_allele_id: str | None


def annotate_again(mavedb: MaveDB, submitted: Submitted) -> Annotated:
    """Meanwhile one service is silent at first, and another does not get ready."""
    protein = mavedb.value(
        """
        SELECT min(mapped.id) FROM mapped_variants AS mapped
          JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND mapped.current AND post_mapped IS NOT NULL
        """,
        id=submitted.score_set_id,
    )
    mavedb.execute(
        """
        UPDATE mapped_variants
           SET post_mapped = jsonb_set(post_mapped, '{expressions}', CAST(:expressions AS jsonb))
         WHERE id = :id
        """,
        id=protein,
        expressions=json.dumps([{"syntax": "hgvs.p", "value": PROTEIN}]),
    )
    impatient = {"UNIPROT_POLLING_TIMEOUT_SECONDS": "0", "CLINGEN_READ_TIMEOUT_SECONDS": "3"}
    with (
        mavedb.fault(mavedb.stack.clingen_url, "slow", seconds=30, match="file=hgvs", times=1),
        mavedb.fault(mavedb.stack.simulator_urls["uniprot"], "unfinished", match="status"),
    ):
        again = mavedb.run_in_prefect("annotate_score_set", submitted, env=impatient)
        ended = ending(mavedb, again)
    return Annotated(
        ended,
        attempts(mavedb, again, REGISTER),
        mavedb.value("SELECT clingen_allele_id FROM mapped_variants WHERE id = :id", id=protein),
    )


def number_with_allele_id(mavedb: MaveDB, submitted: Submitted) -> int:
    number: int = mavedb.value(
        """
        SELECT count(*) FROM mapped_variants AS mapped JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND mapped.current AND clingen_allele_id IS NOT NULL
        """,
        id=submitted.score_set_id,
    )
    return number


def ending(mavedb: MaveDB, submitted: Submitted) -> Ended:
    status = mavedb.wait_for(submitted)
    mavedb.assert_every_variant_is_accounted_for(submitted)
    return Ended(status, mavedb.jobs(submitted), mavedb.account(submitted))
