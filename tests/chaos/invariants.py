"""What must hold once everything has calmed down, whatever died before."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.local.stack import Stack
from mavedb_audit.reasons import NOT_REACHED
from tests.support import MAIN_JOB, MaveDB


@dataclass(frozen=True)
class Violation:
    """A broken promise. `subject` is the URN or the id of what it is about, for its history."""

    what: str
    subject: str

    def __str__(self) -> str:
        return f"{self.what}: {self.subject}"


#: Remembers each end of an attempt that was written over: an attempt ends once.
_WITNESS = """
    CREATE SCHEMA IF NOT EXISTS chaos;
    CREATE TABLE chaos.second_ends (job_id integer, attempt integer, first text, second text);
    CREATE FUNCTION chaos.remember_second_end() RETURNS trigger LANGUAGE plpgsql
      SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO chaos.second_ends VALUES (OLD.job_id, OLD.attempt, OLD.outcome, NEW.outcome);
        RETURN NULL;
    END $$;
    CREATE TRIGGER second_end AFTER UPDATE ON job_attempts FOR EACH ROW
      WHEN (OLD.outcome IS NOT NULL
            AND (OLD.outcome, OLD.finished_at) IS DISTINCT FROM (NEW.outcome, NEW.finished_at))
      EXECUTE FUNCTION chaos.remember_second_end()
"""

#: What has not come to an end: (what, subject).
_OPEN = """
    SELECT job_function || ' is ' || status, urn FROM job_runs
     WHERE status IN ('pending', 'queued', 'running')
     UNION ALL
    SELECT 'it is ' || status, urn FROM pipelines WHERE status IN ('created', 'running', 'paused')
     UNION ALL
    SELECT 'attempt ' || attempt || ' is open', job.urn
      FROM job_attempts JOIN job_runs AS job ON job.id = job_id WHERE outcome IS NULL
     UNION ALL
    SELECT 'its request waits: ' || coalesce(last_error, 'for a dispatcher'), pipelines.urn
      FROM pipeline_requests JOIN pipelines ON pipelines.id = pipeline_id
     WHERE dispatched_at IS NULL AND status = 'created'
"""

#: Variants in scope of a pipeline that lack a current status of a type that it owes, or have two.
_UNACCOUNTED = """
    SELECT count(status.id) || ' current statuses of ' || owed.type, variants.urn
      FROM variants
      JOIN (SELECT planned.score_set_id, owes.type, count(DISTINCT planned.job_key) AS statuses
              FROM planned_jobs AS planned
              JOIN unnest(CAST(:job_keys AS text[]), CAST(:types AS text[]))
                   AS owes (job_key, type) ON owes.job_key = planned.job_key
             GROUP BY 1, 2
           ) AS owed ON owed.score_set_id = variants.scoreset_id
      LEFT JOIN variant_annotation_status AS status
        ON status.variant_id = variants.id AND status.annotation_type = owed.type
       AND status.current
     GROUP BY variants.urn, owed.type, owed.statuses HAVING count(status.id) <> owed.statuses
"""
_OWES = [
    (step.key, str(annotation_type))
    for step in MAIN_JOB.steps
    for annotation_type in step.annotation_types
]

#: Subjects whose rows contradict each other.
_CONTRADICTIONS = {
    "a mapping without its status": """
        SELECT variants.urn FROM variants
          JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id AND mapped.current
         WHERE mapped.post_mapped IS NOT NULL AND NOT EXISTS (
               SELECT FROM variant_annotation_status AS status
                WHERE status.variant_id = variants.id AND status.annotation_type = 'vrs_mapping'
                  AND status.status = 'success')
    """,
    "a mapping's success without the mapping": """
        SELECT variants.urn FROM variants
          JOIN variant_annotation_status AS status ON status.variant_id = variants.id
         WHERE status.annotation_type = 'vrs_mapping' AND status.current
           AND status.status = 'success' AND NOT EXISTS (
               SELECT FROM mapped_variants AS mapped
                WHERE mapped.variant_id = variants.id AND mapped.current
                  AND mapped.post_mapped IS NOT NULL)
    """,
    "a ClinGen id without its status": """
        SELECT variants.urn FROM variants
          JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id AND mapped.current
         WHERE mapped.clingen_allele_id IS NOT NULL AND NOT EXISTS (
               SELECT FROM variant_annotation_status AS status
                WHERE status.variant_id = variants.id
                  AND status.annotation_type = 'clingen_allele_id' AND status.status = 'success'
                  AND status.success_data ->> 'clingen_allele_id' = mapped.clingen_allele_id)
    """,
    "a ClinGen id's success without the id": """
        SELECT variants.urn FROM variants
          JOIN variant_annotation_status AS status ON status.variant_id = variants.id
         WHERE status.annotation_type = 'clingen_allele_id' AND status.current
           AND status.status = 'success' AND NOT EXISTS (
               SELECT FROM mapped_variants AS mapped
                WHERE mapped.variant_id = variants.id AND mapped.current
                  AND mapped.clingen_allele_id = status.success_data ->> 'clingen_allele_id')
    """,
    "a link to gnomAD without its status": """
        SELECT variants.urn FROM variants
          JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id AND mapped.current
          JOIN gnomad_variants_mapped_variants AS link ON link.mapped_variant_id = mapped.id
         WHERE NOT EXISTS (
               SELECT FROM variant_annotation_status AS status
                WHERE status.variant_id = variants.id
                  AND status.annotation_type = 'gnomad_allele_frequency'
                  AND status.status = 'success')
    """,
    "a link's success without the link to gnomAD": """
        SELECT variants.urn FROM variants
          JOIN variant_annotation_status AS status ON status.variant_id = variants.id
         WHERE status.annotation_type = 'gnomad_allele_frequency' AND status.current
           AND status.status = 'success' AND NOT EXISTS (
               SELECT FROM mapped_variants AS mapped
                 JOIN gnomad_variants_mapped_variants AS link
                   ON link.mapped_variant_id = mapped.id
                WHERE mapped.variant_id = variants.id AND mapped.current)
    """,
    "a variant with two current mappings": """
        SELECT variants.urn FROM variants
          JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id AND mapped.current
         GROUP BY 1 HAVING count(*) > 1
    """,
    "a finding written by none of its job's attempts at its end": """
        SELECT DISTINCT job.urn
          FROM variant_annotation_status AS status
          JOIN job_runs AS job ON job.id = status.job_run_id
         WHERE (status.failure_category IS NULL OR status.failure_category <> ALL (:not_reached))
           AND NOT EXISTS (
               SELECT FROM job_attempts AS attempt
                WHERE attempt.job_id = job.id AND attempt.finished_at = status.created_at)
    """,
    "an attempt that began before the one before it ended": """
        SELECT job.urn || ' attempt ' || later.attempt FROM job_attempts AS later
          JOIN job_attempts AS earlier
            ON earlier.job_id = later.job_id AND earlier.attempt = later.attempt - 1
          JOIN job_runs AS job ON job.id = later.job_id
         WHERE later.started_at < earlier.finished_at
    """,
    "an attempt that ended twice": """
        SELECT job.urn || ' attempt ' || attempt || ': ' || first || ', then ' || second
          FROM chaos.second_ends JOIN job_runs AS job ON job.id = job_id
    """,
    "a job that succeeded more than once": """
        SELECT job.urn FROM job_attempts JOIN job_runs AS job ON job.id = job_id
         WHERE outcome = 'succeeded' GROUP BY 1 HAVING count(*) > 1
    """,
    "a score set left processing": """
        SELECT 'score set ' || id FROM scoresets
         WHERE processing_state = 'processing' OR mapping_state = 'processing'
    """,
}


def install_witness(mavedb: MaveDB) -> None:
    """From now on the database remembers what its rows alone would not show."""
    mavedb.execute(_WITNESS)


def open_rows(mavedb: MaveDB) -> list[Violation]:
    """Everything that has not come to an end."""
    return [Violation(*row) for row in mavedb.rows(_OPEN)]


def unaccounted(mavedb: MaveDB) -> list[Violation]:
    """Each variant and annotation type without as many current statuses as jobs owe it."""
    job_keys, types = zip(*_OWES, strict=True)
    rows = mavedb.rows(_UNACCOUNTED, job_keys=list(job_keys), types=list(types))
    return [Violation(*row) for row in rows]


def contradictions(mavedb: MaveDB) -> list[Violation]:
    """What no two rows may say at once."""
    return [
        Violation(what, row[0])
        for what, sql in _CONTRADICTIONS.items()
        for row in mavedb.rows(sql, not_reached=sorted(NOT_REACHED))
    ]


def ends_by_error(stack: Stack) -> list[Violation]:
    """The loops of `mavedb-audit serve` that something ended which they did not expect."""
    return [
        Violation(f"{log.name} has", line)
        for log in sorted((stack.state / "logs").glob("*.log"))
        for line in log.read_text(errors="replace").splitlines()
        if "ended by an error" in line
    ]


def differences(stack: Stack) -> list[Violation]:
    """What `mavedb-audit verify` finds, which is to judge the youngest states, too."""
    done = subprocess.run(
        [Path(sys.executable).with_name("mavedb-audit"), "verify", "--output", "json"],
        env={"PATH": os.environ["PATH"], **stack.env, "RECONCILE_GRACE_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode not in (0, 1):
        return [Violation(f"verify ended with {done.returncode}: {done.stderr}", "all")]
    found = json.loads(done.stdout)
    violations = list(_differences(found))
    if bool(violations) != bool(done.returncode):
        return [Violation(f"verify ended with {done.returncode}: {done.stdout}", "all")]
    return violations


def _differences(found: dict[str, Any]) -> Iterator[Violation]:
    for difference in found["differences"]:
        what = f"{difference['name']} {difference['state_id']} is {difference['what']}"
        yield Violation(what, difference["run_id"])
    for broken in found["broken"]:
        for subject, seen in broken["examples"]:
            yield Violation(f"not so: {broken['invariant']} ({seen})", subject)
    for run_id in found["unanswered"]:
        yield Violation("Prefect does not tell its history", run_id)
