"""Load a release of ClinVar into the store that every score set's annotation reads."""

from datetime import UTC, datetime

from mavedb_audit.hooks import audited_task
from mavedb_audit.steps import Step
from tasks.clients.clinvar_archive import Release
from tasks.clinvar.loading import archive, load_unless_there


@audited_task
def load_clinvar_release(
    step: Step,
    year: int | None = None,
    month: int | None = None,
    correlation_id: str | None = None,
) -> None:
    """Without year and month the newest release that is published. Once loaded it stays."""
    if year is None or month is None:
        release = archive().newest(datetime.now(UTC).date())
    else:
        release = Release(year, month)
    summary = load_unless_there(step, release)
    with step.finishing() as finish:
        finish.data["release"] = str(release)
        if summary is None:
            finish.data["was_there"] = True
        else:
            finish.data |= {
                "rows": summary.rows,
                "unusable_rows": summary.nobodys_rows,
                "alleles": summary.alleles.height,
            }
