"""A flow of plain Prefect, as a baseline: nothing of it is audited."""

from prefect import flow, task
from prefect.futures import wait


@task
def first() -> None:
    """Nothing."""


@task
def second() -> None:
    """Nothing, after the first."""


@flow
def plain() -> None:
    """Two tasks, one after the other."""
    before = first.submit()
    wait([second.submit(wait_for=[before], return_state=False)])
