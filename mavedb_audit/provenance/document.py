"""A score set's provenance as a W3C PROV document, in its JSON form.

The form: https://www.w3.org/submissions/2013/SUBM-prov-json-20130424/
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from mavedb_audit.pipelines import CREATE, AnnotationType
from mavedb_audit.provenance import names
from mavedb_audit.provenance.details import Collection, Outcome
from mavedb_audit.reasons import MEANINGS, Reason


@dataclass(frozen=True)
class ScoreSet:
    id: int
    urn: str
    title: str
    variants: int


@dataclass(frozen=True)
class ParquetFile:
    """The file that tells each variant's collection."""

    name: str
    sha256: str
    rows: int


#: Whose releases the versions of statuses are. Of VRS it is the specification's.
_SOURCES: Mapping[str, str] = {
    AnnotationType.VRS_MAPPING: "VRS",
    AnnotationType.CLINGEN_ALLELE_ID: "ClinGen Allele Registry",
    AnnotationType.MAPPED_HGVS: "ClinGen Allele Registry",
    AnnotationType.VARIANT_TRANSLATION: "ClinGen Allele Registry",
    AnnotationType.GNOMAD_ALLELE_FREQUENCY: "gnomAD",
    AnnotationType.CLINVAR_CONTROL: "ClinVar",
    AnnotationType.VEP_FUNCTIONAL_CONSEQUENCE: "Ensembl",
    AnnotationType.LDH_SUBMISSION: "ClinGen Linked Data Hub",
}


@dataclass
class _Document:
    """PROV's records by their kinds, as the JSON form has them. Relations are numbered."""

    content: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"prefix": dict(names.PREFIXES)}
    )

    def add(self, kind: str, name: str, types: str | Sequence[str], /, **attributes: Any) -> None:
        """An entity, activity or agent. Attributes are ours unless they are PROV's own."""
        given = [types] if isinstance(types, str) else types
        named = [{"$": each, "type": "prov:QUALIFIED_NAME"} for each in given]
        self.content.setdefault(kind, {})[name] = {
            "prov:type": named[0] if len(named) == 1 else named,
            **_attributes(attributes),
        }

    def relate(self, kind: str, roles: Mapping[str, Any], **attributes: Any) -> None:
        records = self.content.setdefault(kind, {})
        records[f"_:{kind}{len(records) + 1}"] = {
            **{f"prov:{role}": _value(value) for role, value in roles.items() if value is not None},
            **_attributes(attributes),
        }


#: Attributes that are PROV's own, by the names that we give them by.
_PROV = {"label": "prov:label", "start": "prov:startTime", "end": "prov:endTime"}


def _attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _PROV.get(name, f"audit:{name}"): _value(value)
        for name, value in given.items()
        if value is not None
    }


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


def document(
    connection: Connection,
    score_set: ScoreSet,
    collections: Mapping[Outcome, Collection],
    file: ParquetFile,
) -> dict[str, Any]:
    """The document as the JSON form has it."""
    made = _Document()
    made.add(
        "entity",
        names.of_urn(score_set.urn),
        "audit:ScoreSet",
        label=score_set.title,
        variants=score_set.variants,
    )
    jobs = connection.execute(
        text(_JOBS),
        {
            "score_set_id": score_set.id,
            "job_ids": sorted({o.job_id for o in collections if o.job_id is not None}),
            "create": CREATE.function,
        },
    ).all()
    _add_pipelines(made, connection, sorted({job.pipeline_id for job in jobs if job.pipeline_id}))
    _add_jobs(made, connection, jobs)
    _add_uploads(made, connection, score_set, jobs)
    _add_collections(made, score_set, collections, file)
    return made.content


#: The jobs that what is current came from: those that wrote it, the newest that made the variants,
#: and all that these came after.
_JOBS = """
    WITH RECURSIVE concerned (id) AS (
        SELECT unnest(CAST(:job_ids AS integer[]))
         UNION
        (SELECT creating.id FROM job_runs AS creating
           JOIN planned_jobs ON planned_jobs.job_id = creating.id
          WHERE planned_jobs.score_set_id = :score_set_id AND creating.job_function = :create
            AND creating.status = 'succeeded'
          ORDER BY creating.finished_at DESC, creating.id DESC LIMIT 1)
         UNION
        SELECT depends_on_job_id FROM job_dependencies JOIN concerned USING (id)
    )
    SELECT job.*, planned.job_key, pipeline.urn AS pipeline_urn
      FROM concerned JOIN job_runs AS job USING (id)
      LEFT JOIN planned_jobs AS planned ON planned.job_id = job.id
      LEFT JOIN pipelines AS pipeline ON pipeline.id = job.pipeline_id
     ORDER BY job.id
"""


def _add_pipelines(made: _Document, connection: Connection, pipeline_ids: list[int]) -> None:
    rows = connection.execute(
        text(
            """
            SELECT pipeline.*, users.username
              FROM pipelines AS pipeline LEFT JOIN users ON users.id = created_by_user_id
             WHERE pipeline.id = ANY (:ids) ORDER BY pipeline.id
            """
        ),
        {"ids": pipeline_ids},
    )
    for row in rows:
        name = names.of_row("pipeline", row.urn, row.id)
        made.add(
            "activity",
            name,
            "audit:Pipeline",
            label=row.name,
            start=row.started_at,
            end=row.finished_at,
            status=row.status,
            created_at=row.created_at,
        )
        if row.created_by_user_id is not None:
            user = _add_user(made, row.created_by_user_id, row.username)
            made.relate("wasAssociatedWith", {"activity": name, "agent": user})


def _add_user(made: _Document, user_id: int, username: str | None) -> str:
    name = names.audit("user", user_id)
    made.add("agent", name, ["prov:Person", "audit:User"], username=username)
    return name


def _add_jobs(made: _Document, connection: Connection, jobs: Sequence[Row[Any]]) -> None:
    name_of = {job.id: names.of_row("job", job.urn, job.id) for job in jobs}
    for job in jobs:
        name = name_of[job.id]
        made.add(
            "activity",
            name,
            "audit:Job",
            label=job.job_key or job.job_function,
            start=job.started_at,
            end=job.finished_at,
            function=job.job_function,
            params=job.job_params,
            status=job.status,
            failure_category=job.failure_category,
            error_message=job.error_message,
        )
        if job.pipeline_id is not None:
            pipeline = names.of_row("pipeline", job.pipeline_urn, job.pipeline_id)
            made.relate("wasStartedBy", {"activity": name, "starter": pipeline})
        if job.mavedb_version is not None:
            # Jobs that nobody planned are of MaveDB's job system before this one.
            package = "mavedb" if job.job_key is None else "mavedb-audit"
            software = names.audit("software", package, job.mavedb_version)
            made.add(
                "agent",
                software,
                ["prov:SoftwareAgent", "audit:Software"],
                label=f"{package} {job.mavedb_version}",
            )
            made.relate("wasAssociatedWith", {"activity": name, "agent": software})
    _add_attempts(made, connection, name_of)
    edges = connection.execute(
        text(
            """
            SELECT id, depends_on_job_id, dependency_type FROM job_dependencies
             WHERE id = ANY (:ids) ORDER BY id, depends_on_job_id
            """
        ),
        {"ids": list(name_of)},
    )
    for job_id, parent_id, dependency_type in edges:
        made.relate(
            "wasInformedBy",
            {"informed": name_of[job_id], "informant": name_of[parent_id]},
            dependency_type=dependency_type,
        )


def _add_attempts(made: _Document, connection: Connection, name_of: Mapping[int, str]) -> None:
    rows = connection.execute(
        text(
            """
            SELECT attempt.*, metrics.http_requests
              FROM job_attempts AS attempt
              LEFT JOIN job_metrics AS metrics ON metrics.attempt_id = attempt.id
             WHERE attempt.job_id = ANY (:ids) ORDER BY attempt.job_id, attempt.attempt
            """
        ),
        {"ids": list(name_of)},
    )
    for row in rows:
        job = name_of[row.job_id]
        name = names.of_attempt(job, row.attempt)
        made.add(
            "activity",
            name,
            "audit:Attempt",
            start=row.started_at,
            end=row.finished_at,
            attempt=row.attempt,
            outcome=row.outcome,
            failure_category=row.failure_category,
            error_message=row.error_message,
        )
        made.relate("wasStartedBy", {"activity": name, "starter": job})
        for service, requests in sorted((row.http_requests or {}).items()):
            agent = names.audit("service", service)
            made.add("agent", agent, ["prov:SoftwareAgent", "audit:Service"], label=service)
            made.relate("wasAssociatedWith", {"activity": name, "agent": agent}, requests=requests)


def _add_uploads(
    made: _Document, connection: Connection, score_set: ScoreSet, jobs: Sequence[Row[Any]]
) -> None:
    creating = {job.pipeline_id: job for job in jobs if job.job_function == CREATE.function}
    rows = connection.execute(
        text(
            """
            SELECT upload.*, users.username
              FROM raw_uploads AS upload LEFT JOIN users ON users.id = upload.user_id
             WHERE upload.pipeline_id = ANY (:ids) ORDER BY upload.pipeline_id, kind, key
            """
        ),
        {"ids": list(creating)},
    )
    for row in rows:
        job = creating[row.pipeline_id]
        activity = names.of_row("job", job.urn, job.id)
        name = names.audit("upload", row.pipeline_urn, row.kind, row.key)
        made.add(
            "entity",
            name,
            "audit:Upload",
            label=row.key,
            kind=row.kind,
            sha256=row.sha256,
            size=row.size,
        )
        made.relate("used", {"activity": activity, "entity": name})
        made.relate(
            "wasDerivedFrom",
            {
                "generatedEntity": names.of_urn(score_set.urn),
                "usedEntity": name,
                "activity": activity,
            },
        )
        if row.user_id is not None:
            user = _add_user(made, row.user_id, row.username)
            made.relate("wasAttributedTo", {"entity": name, "agent": user})


def _add_collections(
    made: _Document,
    score_set: ScoreSet,
    collections: Mapping[Outcome, Collection],
    file: ParquetFile,
) -> None:
    table = names.audit("file", file.sha256)
    made.add(
        "entity", table, "audit:Annotations", label=file.name, sha256=file.sha256, rows=file.rows
    )
    used = set()
    for outcome, collection in collections.items():
        name, activity = outcome.name(score_set.urn), outcome.activity
        made.add(
            "entity",
            name,
            ["prov:Collection", "audit:Annotation"],
            annotation_type=outcome.annotation_type,
            version=outcome.version,
            status=outcome.status,
            reason=outcome.reason,
            sentence=_sentence(outcome.reason),
            variants=collection.variants,
            members=file.name,
        )
        if activity is not None:
            generated = {"entity": name, "activity": activity, "time": collection.recorded_at}
            made.relate("wasGeneratedBy", generated)
        _derive(made, name, names.of_urn(score_set.urn), activity)
        if outcome.version is not None:
            source = _SOURCES.get(outcome.annotation_type, outcome.annotation_type)
            release = names.audit("release", source, outcome.version)
            made.add(
                "entity",
                release,
                "audit:Release",
                label=f"{source} {outcome.version}",
                source=source,
                version=outcome.version,
            )
            _derive(made, name, release, activity)
            if activity is not None and (activity, release) not in used:
                used.add((activity, release))
                made.relate("used", {"activity": activity, "entity": release})
        _derive(made, table, name, None)


def _derive(made: _Document, derived: str, origin: str, activity: str | None) -> None:
    roles = {"generatedEntity": derived, "usedEntity": origin, "activity": activity}
    made.relate("wasDerivedFrom", roles)


def _sentence(reason: str | None) -> str | None:
    """What the reason means; MaveDB's own of old may be none of ours."""
    return MEANINGS[Reason(reason)].sentence if reason in set(Reason) else None
