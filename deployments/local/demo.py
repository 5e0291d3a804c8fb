"""The demo: one score set, from its submission to the account of every variant."""

import json
import os
import time
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from deployments.local import account, processes, progress, score_set, stack
from deployments.local.stack import Stack
from deployments.local.submission import (
    Submission,
    SubmissionError,
    insert_score_set,
    publish,
    read_export,
    submit,
    upload,
)
from mavedb_audit.database import engine
from mavedb_audit.recorder.plans import PlannedPipeline

_SEED = 20_180_912
_VARIANTS = 1_500
_CURATOR = "demo-curator"
_WIDTH_IN_A_FILE = 100


def run(
    state: Path, scores: Path | None, counts: Path | None, target: Path | None, keep: bool
) -> int:
    """Run the demo and return its exit code: 0 when the pipeline succeeded, at least in part."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_IN_A_FILE)
    submission = _submission(scores, counts, target)
    _say(
        console, f"Starting PostgreSQL, Valkey, the simulators, Prefect and our service in {state}"
    )
    began = time.monotonic()
    with stack.running(state) as running:
        console.print(f"All parts are up after {time.monotonic() - began:.0f} s.")
        # What of ours runs in this process takes the same settings as every part.
        os.environ.update(running.env)
        succeeded = _submit_and_watch(running, submission, console)
        if keep:
            stack.keep(running)
            _say(console, stack.how_to_sign_in(running))
            _say(
                console,
                f"Everything stays up until `make demo-stop STATE={state}`. For our command line, "
                f"`prefect` and `psql`: set -a; . {state}/env; set +a",
            )
        else:
            console.print("Stopping everything. With KEEP=1 it stays up, to look around in.")
    return 0 if succeeded else 1


def _submission(scores: Path | None, counts: Path | None, target: Path | None) -> Submission:
    if scores is None:
        if counts or target:
            raise SubmissionError(
                "COUNTS and TARGET go with SCORES: give the score file too, or none of them."
            )
        scores_csv, counts_csv = score_set.generate(_SEED, _VARIANTS, score_set.BRCA1_RING)
        return Submission(
            urn=f"tmp:{uuid4()}",
            title="BRCA1 RING domain, generated",
            target_name="BRCA1",
            sequence=score_set.BRCA1_RING,
            sequence_type="dna",
            scores_csv=scores_csv.encode(),
            counts_csv=counts_csv.encode(),
        )
    if target is None:
        raise SubmissionError(
            "SCORES needs TARGET: a FASTA file with the sequence that the variants are written "
            "against."
        )
    return read_export(scores, counts, target)


def _submit_and_watch(running: Stack, submission: Submission, console: Console) -> bool:
    """Whether the pipeline succeeded, at least in part. Prints all that there is to know."""
    with engine().begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn=submission.urn,
            title=submission.title,
            target_name=submission.target_name,
            sequence=submission.sequence,
            sequence_type=submission.sequence_type,
            user=_CURATOR,
        )
    scores_key, counts_key = upload(
        running.env["UPLOAD_STORE_URL"],
        score_set_id,
        user_id,
        submission.scores_csv,
        submission.counts_csv,
    )
    with engine().begin() as connection:
        submitted = submit(connection, score_set_id, user_id, scores_key, counts_key)
    _write_addresses(running, submission.urn, submitted.pipeline_urn)
    _say(
        console,
        f"Submitted {submission.urn} ({submission.title}); requested {submitted.pipeline_urn}",
    )
    ended_well = _follow(running, score_set_id, submitted, console)
    if ended_well:
        with engine().begin() as connection:
            published = publish(connection, score_set_id, user_id)
        _say(console, f"Published it; requested {published.pipeline_urn}")
        ended_well = _follow(running, score_set_id, published, console)
    account.show_account(
        engine(), score_set_id, submitted.pipeline_id, running.prefect_ui_url, console
    )
    return ended_well


def _follow(running: Stack, score_set_id: int, pipeline: PlannedPipeline, console: Console) -> bool:
    """Show the pipeline until it ends. Whether it succeeded, at least in part."""
    began = time.monotonic()
    status = progress.follow(
        engine(), pipeline.pipeline_id, console, lambda: processes.check_all_alive(running.state)
    )
    console.print(f"The pipeline ended {status} after {time.monotonic() - began:.0f} s.")
    if status == "failed":
        account.show_failure(engine(), score_set_id, pipeline.pipeline_id, console)
    return status in ("succeeded", "partial")


def _say(console: Console, words: str) -> None:
    """Print a line that may hold long addresses, which stay whole."""
    console.print(words, soft_wrap=True, highlight=False)


def _write_addresses(running: Stack, score_set_urn: str, pipeline_urn: str) -> None:
    """STATE/demo.json, for scripts. It holds the database's password and a token."""
    file = running.state / "demo.json"
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "database_url": running.database_url,
                "prefect_api_url": running.prefect_api_url,
                "prefect_ui_url": running.prefect_ui_url,
                "audit_url": running.audit_url,
                "audit_token": running.audit_token,
                "score_set_urn": score_set_urn,
                "pipeline_urn": pipeline_urn,
            },
            indent=1,
        )
        + "\n"
    )
