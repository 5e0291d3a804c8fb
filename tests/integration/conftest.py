"""What tests of the audit's own tables start from."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from tests.support import insert_numbered_variants
from tests.support_recorder import Pipeline, plan, plan_two_steps


@pytest.fixture
def engine(domain_database: str) -> Iterator[Engine]:
    engine = create_engine(domain_database)
    yield engine
    engine.dispose()


@pytest.fixture
def pipeline(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A planned pipeline of two steps on a score set of three variants."""
    plan_two_steps(monkeypatch)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
        planned = plan(connection, score_set_id)
    return Pipeline(engine, score_set_id, planned)
