from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from deployments.local import postgres as local_postgres
from deployments.local.postgres import Cluster
from tests.plans.years import Years, fill, find

_NAME = "years"


@pytest.fixture(scope="session")
def years(postgres: Cluster, _migrated_database: str) -> Iterator[Years]:
    """One database for all tests of plans: they leave it as it is."""
    local_postgres.create_databases(postgres, [_NAME], _migrated_database)
    url = postgres.url(_NAME, "postgresql+psycopg")
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            fill(connection)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        with engine.connect() as connection:
            years = find(connection, url)
        yield years
    finally:
        engine.dispose()
        local_postgres.drop_database(postgres, _NAME)


@pytest.fixture
def connection(years: Years) -> Iterator[Connection]:
    """In a transaction that is rolled back."""
    engine = create_engine(years.url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
