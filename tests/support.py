"""What the tests do as MaveDB's API, a curator and a maintainer do: submit, wait, ask SQL."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import Connection, Engine, Row, create_engine, text

from deployments.local.score_set import BRCA1_RING, generate
from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set, submit, upload
from mavedb_audit.limits import LIMITS
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.trigger import request_pipeline

#: The plan of `MaveDB.submit`.
MAIN_JOB = PIPELINES["validate_map_annotate_score_set"]
TERMINAL = {"succeeded", "failed", "cancelled", "partial"}


@dataclass(frozen=True)
class Submitted:
    """A score set whose pipeline was asked for."""

    score_set_id: int
    score_set_urn: str
    user_id: int
    pipeline_id: int
    pipeline_urn: str


@dataclass(frozen=True)
class MaveDB:
    """MaveDB as its tests see it: its database, and the deployment that works on it."""

    stack: Stack
    engine: Engine

    def rows(self, sql: str, **params: Any) -> list[Row[Any]]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), params))

    def value(self, sql: str, **params: Any) -> Any:
        return self.rows(sql, **params)[0][0]

    def execute(self, sql: str, **params: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), params)

    def submit(
        self,
        scores: str | bytes,
        counts: str | bytes | None = None,
        *,
        target: str = BRCA1_RING,
        sequence_type: str = "dna",
        urn: str | None = None,
        lose_files: bool = False,
    ) -> Submitted:
        """Upload the files for a score set, a new one unless `urn` is there already.

        `lose_files` removes them from the store before anybody can read them.
        """
        urn = urn or f"tmp:{uuid4()}"
        with self.engine.begin() as connection:
            score_set_id, user_id = insert_score_set(
                connection,
                urn=urn,
                title=urn,
                target_name="BRCA1",
                sequence=target,
                sequence_type=sequence_type,
                user="curator",
            )
            keys = upload(
                self.stack.env["UPLOAD_STORE_URL"],
                score_set_id,
                user_id,
                _bytes(scores),
                None if counts is None else _bytes(counts),
            )
            if lose_files:
                (self.stack.state / "uploads" / keys[0]).unlink()
            planned = submit(connection, score_set_id, user_id, *keys)
        return Submitted(score_set_id, urn, user_id, planned.pipeline_id, planned.pipeline_urn)

    def request(self, name: str, submitted: Submitted) -> Submitted:
        """Ask for another pipeline of the same score set."""
        with self.engine.begin() as connection:
            planned = request_pipeline(
                connection,
                name,
                {"score_set_id": submitted.score_set_id, "updater_id": submitted.user_id},
                submitted.user_id,
                uuid4().hex,
            )
        return Submitted(
            submitted.score_set_id,
            submitted.score_set_urn,
            submitted.user_id,
            planned.pipeline_id,
            planned.pipeline_urn,
        )

    def create_flow_run(
        self, name: str, parameters: Mapping[str, Any], *, env: Mapping[str, str] | None = None
    ) -> UUID:
        """Run a deployment by hand, as Prefect's UI does. `env` are its process's own settings."""
        deployment = self.prefect("GET", f"deployments/name/{name}/mavedb")
        created = self.prefect(
            "POST",
            f"deployments/{deployment['id']}/create_flow_run",
            {
                "parameters": parameters,
                "job_variables": {"env": env or {}},
                "state": {"type": "SCHEDULED"},
            },
        )
        return UUID(created["id"])

    def run_in_prefect(
        self, name: str, submitted: Submitted, *, env: Mapping[str, str], **more: Any
    ) -> Submitted:
        """Run another pipeline of the same score set by hand, with `more` parameters."""
        parameters = {"score_set_id": submitted.score_set_id, **more}
        urn = f"urn:mavedb:pipeline-{self.create_flow_run(name, parameters, env=env)}"
        planned = "SELECT id FROM pipelines WHERE urn = :urn"
        rows = wait_until(lambda: self.rows(planned, urn=urn))
        return replace(submitted, pipeline_id=rows[0].id, pipeline_urn=urn)

    def dispatched_flow_run(self, submitted: Submitted) -> UUID | None:
        """The flow run that the pipeline's request was sent to Prefect as, once it was."""
        flow_run_id: UUID | None = self.value(
            "SELECT flow_run_id FROM pipeline_requests WHERE pipeline_id = :id",
            id=submitted.pipeline_id,
        )
        return flow_run_id

    def wait_for(self, submitted: Submitted) -> str:
        """The pipeline's status, once it is terminal and Prefect has ended its flow run, too."""
        status: str = wait_until(lambda: self._ended(submitted), within_seconds=240)
        return status

    def _ended(self, submitted: Submitted) -> str | None:
        status: str = self.value(
            "SELECT status FROM pipelines WHERE id = :id", id=submitted.pipeline_id
        )
        if status not in TERMINAL:
            return None
        return status if self.flow_run(submitted)["state_type"] in FINAL else None

    def flow_run(self, submitted: Submitted) -> Mapping[str, Any]:
        """What Prefect knows of the pipeline's flow run."""
        flow_run_id = self.value(
            "SELECT run_id FROM prefect_runs WHERE pipeline_id = :id AND kind = 'flow'",
            id=submitted.pipeline_id,
        )
        return self.prefect("GET", f"flow_runs/{flow_run_id}")

    def task_runs(self, submitted: Submitted) -> list[Mapping[str, Any]]:
        """What Prefect knows of its task runs."""
        flow_run_id = self.flow_run(submitted)["id"]
        only_its = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
        runs: list[Mapping[str, Any]] = self.prefect("POST", "task_runs/filter", only_its)
        return runs

    def prefect(self, method: str, path: str, body: Any = None) -> Any:
        response = httpx.request(method, f"{self.stack.prefect_api_url}/{path}", json=body)
        response.raise_for_status()
        return response.json() if response.content else None

    def jobs(self, submitted: Submitted) -> dict[str, Row[Any]]:
        """The pipeline's jobs by key."""
        rows = self.rows(
            """
            SELECT planned.job_key, job.* FROM job_runs AS job
              JOIN planned_jobs AS planned ON planned.job_id = job.id
             WHERE job.pipeline_id = :id ORDER BY job.id
            """,
            id=submitted.pipeline_id,
        )
        return {row.job_key: row for row in rows}

    def account(self, submitted: Submitted) -> dict[tuple[str, str, str | None], int]:
        """(annotation type, status, reason) -> number of variants, of the current rows."""
        rows = self.rows(
            """
            SELECT annotation_type, status.status, failure_category, count(*)
              FROM variant_annotation_status AS status
              JOIN variants ON variants.id = status.variant_id
             WHERE variants.scoreset_id = :id AND status.current GROUP BY 1, 2, 3
            """,
            id=submitted.score_set_id,
        )
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    def assert_every_variant_is_accounted_for(self, submitted: Submitted) -> None:
        """As many current rows for each variant as steps of the main job owe it of each type."""
        owed = Counter(
            annotation_type for step in MAIN_JOB.steps for annotation_type in step.annotation_types
        )
        holes = self.rows(
            """
            SELECT variants.urn, owed.type, count(status.id)
              FROM variants
             CROSS JOIN unnest(CAST(:types AS text[]), CAST(:counts AS integer[]))
                     AS owed (type, count)
              LEFT JOIN variant_annotation_status AS status
                ON status.variant_id = variants.id AND status.annotation_type = owed.type
               AND status.current
             WHERE variants.scoreset_id = :id
             GROUP BY 1, 2, owed.count HAVING count(status.id) <> owed.count LIMIT 5
            """,
            id=submitted.score_set_id,
            types=[str(annotation_type) for annotation_type in owed],
            counts=list(owed.values()),
        )
        assert holes == []

    @contextmanager
    def fault(self, simulator_url: str, kind: str, **more: Any) -> Iterator[None]:
        """A simulator that misbehaves meanwhile. Of two that are switched on, the first is first.

        The end of either switches off both.
        """
        httpx.post(
            f"{simulator_url}/simulator/faults", json={"kind": kind, **more}
        ).raise_for_status()
        try:
            yield
        finally:
            httpx.delete(f"{simulator_url}/simulator/faults").raise_for_status()


@contextmanager
def no_worker_takes_runs(mavedb: MaveDB) -> Iterator[None]:
    def pause_pool(is_paused: bool) -> None:
        httpx.patch(
            f"{mavedb.stack.prefect_api_url}/work_pools/mavedb", json={"is_paused": is_paused}
        ).raise_for_status()

    pause_pool(True)
    try:
        yield
    finally:
        pause_pool(False)


FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def raise_limits(stack: Stack) -> None:
    """Give every service slots enough: a killed process keeps its own for a minute."""
    for service in LIMITS:
        httpx.patch(
            f"{stack.prefect_api_url}/v2/concurrency_limits/{service}", json={"limit": 100}
        ).raise_for_status()


def mavedb_of(stack: Stack) -> MaveDB:
    url = stack.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    return MaveDB(stack, create_engine(url))


def insert_numbered_variants(connection: Connection, variants: int) -> tuple[int, int]:
    """A score set whose variants have the ids 1, 2, ... in an empty database, and its user."""
    score_set_id, user_id = insert_score_set(
        connection,
        urn="tmp:numbered",
        title="Numbered variants",
        target_name="ABC",
        sequence="ATGGCT",
        sequence_type="dna",
        user="curator",
    )
    connection.execute(
        text(
            """
            INSERT INTO variants (id, urn, data, scoreset_id, creation_date, modification_date)
            SELECT n, 'tmp:numbered#' || n, '{}', :id, CURRENT_DATE, CURRENT_DATE
              FROM generate_series(1, :variants) AS n
            """
        ),
        {"id": score_set_id, "variants": variants},
    )
    return score_set_id, user_id


def insert_brca1(connection: Connection) -> tuple[str, int, int]:
    """A score set of BRCA1's RING domain without variants: its URN, its id and its user's."""
    urn = f"tmp:{uuid4()}"
    score_set_id, user_id = insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="BRCA1",
        sequence=BRCA1_RING,
        sequence_type="dna",
        user="curator",
    )
    return urn, score_set_id, user_id


def brca1(variants: int, seed: int = 1) -> tuple[str, str]:
    """Scores and counts of so many variants of the demo's target."""
    return generate(seed, variants, BRCA1_RING)


def wait_until(condition: Any, *, within_seconds: float = 180) -> Any:
    """The first true value of `condition`, asked again and again; fails when it comes too late."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_seconds:g} seconds"
        time.sleep(0.1)
    return value


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()
