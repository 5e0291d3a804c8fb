"""What things are called in a provenance document: qualified names, `prefix:local`."""

from urllib.parse import quote

#: MaveDB's URNs are expanded to themselves; `audit` holds what has no URN of its own.
PREFIXES = {"mavedb": "urn:mavedb:", "tmp": "tmp:", "audit": "urn:mavedb-audit:"}


def of_urn(urn: str) -> str:
    """The name of what has a URN."""
    for prefix in ("mavedb", "tmp"):
        if urn.startswith(PREFIXES[prefix]):
            return f"{prefix}:{quote(urn.removeprefix(PREFIXES[prefix]), safe='')}"
    return audit("urn", urn)


def audit(*parts: object) -> str:
    """The name of something of ours, by parts from the general to the particular."""
    return "audit:" + "/".join(quote(str(part), safe="") for part in parts)


def of_row(kind: str, urn: str | None, row_id: int) -> str:
    """The name of a job or a pipeline; rows of old have no URN."""
    return audit(kind, row_id) if urn is None else of_urn(urn)


def of_attempt(job: str, attempt: int) -> str:
    """The name of a job's attempt, by that of the job."""
    return audit("attempt", job, attempt)


def of_collection(
    score_set_urn: str, annotation_type: str, version: str | None, job: str, outcome: str
) -> str:
    """The name of the annotations that one job, or one attempt, ended in one way."""
    return audit("annotations", score_set_urn, annotation_type, version or "", job, outcome)
