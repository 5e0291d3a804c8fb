"""What commands answer with --output json where the read side has no view of it."""

from datetime import datetime

from mavedb_audit.queries.pipelines import Summary
from mavedb_audit.queries.system import System
from mavedb_audit.views import View


class Overview(View):
    """How the whole does. `problems` are sentences for people; without any all is well."""

    problems: list[str]
    system: System
    pipelines: list[Summary]


class Asked(View):
    """A pipeline that was asked for."""

    pipeline_urn: str


class Outcome(View):
    """A pipeline as it stands after what was done to it."""

    pipeline_urn: str
    status: str


class StepChange(View):
    """A line of `watch`: a step or, where `job_key` is None, the pipeline came to another state."""

    at: datetime
    pipeline_urn: str
    pipeline_status: str
    job_key: str | None
    job_status: str | None
    attempts: int | None
    progress_current: int | None
    progress_total: int | None
    message: str | None


class Recovery(View):
    """What was done to a pipeline whose process was gone, or which stalled."""

    pipeline_urn: str | None
    action: str
    reason: str | None
    at: datetime


class Recovered(View):
    """What one scan settled. `recoveries` are those that were written down meanwhile, also by
    whoever scans beside it, such as `serve`."""

    settled: int
    recoveries: list[Recovery]
