"""What must hold once everything has calmed down, whatever died before."""

import json
import os
import subprocess
import sys
from pathlib import Path

from deployments.local.stack import Stack
from tests.support import MaveDB

OPEN = {
    "jobs": """
        SELECT 'job ' || id || ' ' || job_function || ' is ' || status FROM job_runs
         WHERE status IN ('pending', 'queued', 'running')
    """,
    "pipelines": """
        SELECT 'pipeline ' || id || ' is ' || status FROM pipelines
         WHERE status IN ('created', 'running', 'paused')
    """,
    "attempts": """
        SELECT 'attempt ' || attempt || ' of job ' || job_id || ' is open' FROM job_attempts
         WHERE outcome IS NULL
    """,
    "requests": """
        SELECT 'the request of pipeline ' || request.pipeline_id || ' waits: ' || last_error
          FROM pipeline_requests AS request JOIN pipelines ON pipelines.id = request.pipeline_id
         WHERE dispatched_at IS NULL AND pipelines.status = 'created'
    """,
}

#: Variants in scope of an ended pipeline that lack a current status of a type that it owes, or
#: have two: of types not kept by version one in all.
UNACCOUNTED = """
    SELECT variants.urn || ' has ' || count(status.id) || ' current ' || owed.type
      FROM variants
      JOIN (SELECT DISTINCT planned.score_set_id,
                   CASE job.job_function
                     WHEN 'map_variants_for_score_set' THEN 'vrs_mapping'
                     WHEN 'submit_score_set_mappings_to_car' THEN 'clingen_allele_id'
                     WHEN 'link_gnomad_variants' THEN 'gnomad_allele_frequency'
                   END AS type
              FROM planned_jobs AS planned JOIN job_runs AS job ON job.id = planned.job_id
           ) AS owed ON owed.score_set_id = variants.scoreset_id AND owed.type IS NOT NULL
      LEFT JOIN variant_annotation_status AS status
        ON status.variant_id = variants.id AND status.annotation_type = owed.type
       AND status.current
     GROUP BY variants.urn, owed.type HAVING count(status.id) <> 1
"""

#: Results and statuses that contradict each other, and attempts that do.
CONTRADICTIONS = {
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
    "a ClinGen id's success without the id": """
        SELECT variants.urn FROM variants
          JOIN variant_annotation_status AS status ON status.variant_id = variants.id
         WHERE status.annotation_type = 'clingen_allele_id' AND status.current
           AND status.status = 'success' AND NOT EXISTS (
               SELECT FROM mapped_variants AS mapped
                WHERE mapped.variant_id = variants.id AND mapped.current
                  AND mapped.clingen_allele_id = status.success_data ->> 'clingen_allele_id')
    """,
    "a gnomAD success without the link": """
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
    "an attempt that began before the one before it ended": """
        SELECT later.job_id || ' attempt ' || later.attempt FROM job_attempts AS later
          JOIN job_attempts AS earlier
            ON earlier.job_id = later.job_id AND earlier.attempt = later.attempt - 1
         WHERE later.started_at < earlier.finished_at
    """,
    "a job that succeeded more than once": """
        SELECT job_id::text FROM job_attempts WHERE outcome = 'succeeded'
         GROUP BY 1 HAVING count(*) > 1
    """,
    "a score set left processing": """
        SELECT urn FROM scoresets
         WHERE processing_state = 'processing' OR mapping_state = 'processing'
    """,
}


def open_rows(mavedb: MaveDB) -> list[str]:
    """Everything that has not come to an end."""
    return [str(row[0]) for sql in OPEN.values() for row in mavedb.rows(sql)]


def unaccounted(mavedb: MaveDB) -> list[str]:
    return [str(row[0]) for row in mavedb.rows(UNACCOUNTED)]


def differences(stack: Stack) -> list[str]:
    """What `mavedb-audit verify` finds."""
    done = subprocess.run(
        [Path(sys.executable).with_name("mavedb-audit"), "verify", "--output", "json"],
        env={"PATH": os.environ["PATH"], **stack.env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode not in (0, 1):
        return [f"verify ended with {done.returncode}: {done.stderr}"]
    found = json.loads(done.stdout)
    return [
        *(
            f"{d['what']}: {d['run_name']} {d['name']} {d['state_id']}"
            for d in found["differences"]
        ),
        *(f"{b['invariant']}: {b['rows']} rows, {b['examples'][:3]}" for b in found["broken"]),
        *(f"unanswered: {run_id}" for run_id in found["unanswered"]),
    ]


def violations(mavedb: MaveDB) -> list[str]:
    """One line for each broken promise."""
    return [
        *open_rows(mavedb),
        *unaccounted(mavedb),
        *(
            f"{what}: {row[0]}"
            for what, sql in CONTRADICTIONS.items()
            for row in mavedb.rows(sql)[:5]
        ),
        *(str(difference) for difference in differences(mavedb.stack)),
    ]
