"""How long the pages of a large score set take, beside the same pages of a small one."""

import time
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import httpx
from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import Figure, Pair, each_below, figure_of
from deployments.local.score_set import BRCA1_RING
from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set
from mavedb_audit import account_counts
from mavedb_audit.pipelines import KEPT_PER_VERSION, AnnotationType
from mavedb_audit.reasons import Reason

#: As fast as a page that a person waits for has to be, at half a million variants.
_MOST_MILLISECONDS = 200.0
_SMALL = 100
_TURNS = 5
_ANNOTATIONS = (
    (AnnotationType.VRS_MAPPING, "2"),
    (AnnotationType.CLINGEN_ALLELE_ID, None),
    (AnnotationType.GNOMAD_ALLELE_FREQUENCY, "v4.1"),
    (AnnotationType.CLINVAR_CONTROL, "01_2025"),
    (AnnotationType.CLINVAR_CONTROL, "01_2026"),
)
#: One variant in so many has a status for this reason, in a place that repeats.
_ONE_IN = {Reason.NOT_IN_SOURCE: 3, Reason.MALFORMED_RECORD: 97}

_STATUSES = """
    INSERT INTO variant_annotation_status
           (variant_id, annotation_type, version, status, failure_category)
    SELECT id, :annotation_type, :version,
           CASE WHEN place % :rare = 0 THEN 'failed' WHEN place % :common = 0 THEN 'skipped'
                ELSE 'success' END,
           CASE WHEN place % :rare = 0 THEN :rare_reason
                WHEN place % :common = 0 THEN :common_reason END
      FROM (SELECT id, row_number() OVER (ORDER BY id) AS place
              FROM variants WHERE scoreset_id = :score_set_id) AS numbered
"""


def reading(stack: Stack, engine: Engine, variants: int) -> Figure:
    """The milliseconds of each page of a score set with so many variants, over HTTP: its account,
    lists of variants for a common and a rare reason, and one variant's story."""
    with engine.begin() as connection:
        large = _insert(connection, "urn:mavedb:00009999-a-1", variants)
        small = _insert(connection, "urn:mavedb:00009998-a-1", _SMALL)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE variants, variant_annotation_status"))
    headers = {"Authorization": f"Bearer {stack.audit_token}", "Accept": "text/html"}
    with httpx.Client(
        base_url=stack.audit_url, headers=headers, trust_env=False, timeout=60
    ) as http:
        for path in _pages(small):  # what the server does once, it has done then
            _milliseconds(http, path)
        pairs = [
            Pair(_milliseconds(http, ours), _milliseconds(http, baseline))
            for _ in range(_TURNS)
            for ours, baseline in zip(_pages(large), _pages(small), strict=True)
        ]
    name = f"a page of a score set of {variants:,} variants, of {_SMALL}"
    return figure_of(name, "ms", pairs, each_below(_MOST_MILLISECONDS, "ms"))


def _insert(connection: Connection, urn: str, variants: int) -> str:
    score_set_id, _ = insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="BRCA1",
        sequence=BRCA1_RING,
        sequence_type="dna",
        user="bench",
    )
    of_it = {"score_set_id": score_set_id, "urn": urn, "variants": variants}
    connection.execute(
        text(
            """
            INSERT INTO variants (urn, data, scoreset_id, hgvs_nt, creation_date,
                                  modification_date)
            SELECT :urn || '#' || number, '{}', :score_set_id, 'c.' || number || 'A>G',
                   current_date, current_date
              FROM generate_series(1, :variants) AS number
            """
        ),
        of_it,
    )
    connection.execute(
        text("UPDATE scoresets SET num_variants = :variants WHERE id = :score_set_id"), of_it
    )
    for annotation_type, version in _ANNOTATIONS:
        connection.execute(
            text(_STATUSES),
            {
                "annotation_type": annotation_type,
                "version": version,
                "score_set_id": score_set_id,
                "common": _ONE_IN[Reason.NOT_IN_SOURCE],
                "common_reason": Reason.NOT_IN_SOURCE,
                "rare": _ONE_IN[Reason.MALFORMED_RECORD],
                "rare_reason": Reason.MALFORMED_RECORD,
            },
        )
    connection.execute(text("ANALYZE variants, variant_annotation_status"))
    connection.execute(
        text(
            """
            CREATE TEMPORARY TABLE counted ON COMMIT DROP AS
            SELECT id AS variant_id FROM variants WHERE scoreset_id = :score_set_id
            """
        ),
        of_it,
    )
    for annotation_type, version in _ANNOTATIONS:
        account_counts.count_again(
            connection,
            "counted",
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            per_version=annotation_type in KEPT_PER_VERSION,
            version=version,
        )
    connection.execute(text("DROP TABLE counted"))
    return urn


def _pages(urn: str) -> Sequence[str]:
    score_set = f"/score-sets/{quote(urn)}"
    lists = [
        urlencode({"annotation_type": annotation_type, "version": version, "reason": reason})
        for annotation_type, version in _ANNOTATIONS
        if version is not None
        for reason in _ONE_IN
    ]
    story = f"/variants/{quote(f'{urn}#{_SMALL}')}"
    return [score_set, *(f"{score_set}/variants?{asked}" for asked in lists), story]


def _milliseconds(http: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    http.get(path).raise_for_status()
    return (time.perf_counter() - began) * 1000
