"""A pipeline of two steps that failed, for the commands that look at it."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, create_engine, text

from tests.support import insert_numbered_variants
from tests.support_recorder import CAR, Pipeline, plan, plan_two_steps


@dataclass(frozen=True)
class Played:
    """What was played on a database: a pipeline of the score set `score_set_urn`."""

    pipeline: Pipeline
    score_set_urn: str = "tmp:numbered"

    @property
    def urn(self) -> str:
        return self.pipeline.planned.pipeline_urn

    def end(self) -> None:
        """The step that failed once fails for good, and its pipeline with it."""
        self.pipeline.fail(self.pipeline.begin(CAR, self.pipeline.task_runs[CAR], 2))


def play(url: str, patch: pytest.MonkeyPatch) -> Played:
    """A pipeline on three variants whose first step failed once, and is to be tried again."""
    plan_two_steps(patch)
    engine: Engine = create_engine(url)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
        connection.execute(text("UPDATE scoresets SET num_variants = 3"))
        planned = plan(connection, score_set_id)
    pipeline = Pipeline(engine, score_set_id, planned)
    pipeline.open()
    pipeline.fail(pipeline.begin(CAR), will_be_retried=True)
    return Played(pipeline)
