"""Bring a release of ClinVar into the store, unless it is there."""

import tempfile
from pathlib import Path

from mavedb_audit.locks import in_turn
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from tasks.clients.clinvar_archive import Archive, Release
from tasks.clinvar.store import Store
from tasks.clinvar.variant_summary import Summary, read_summary


def archive() -> Archive:
    config = settings()
    return Archive(
        config.clinvar_archive_url,
        config.clinvar_connect_timeout_seconds,
        config.clinvar_read_timeout_seconds,
    )


def store() -> Store:
    config = settings()
    return Store(config.clinvar_cache_dir, s3_endpoint_url=config.s3_endpoint_url)


def load_unless_there(step: Step, release: Release) -> Summary | None:
    """The release as it was loaded now; None: it had been in the store before.

    Nobody loads what another process is loading: who has waited for it finds it in the store.
    """
    releases = store()
    if releases.has(str(release)):
        return None
    with in_turn(
        f"mavedb_audit:clinvar_release:{release}",
        "Another process that loads this release of ClinVar",
        on_wait=lambda: step.progress(0, 100, f"Waiting for who loads ClinVar {release}"),
    ):
        if releases.has(str(release)):
            return None
        with step.asking(Service.CLINVAR_ARCHIVE):
            return _load(step, release, releases)


def _load(step: Step, release: Release, releases: Store) -> Summary:
    def on_bytes(done: int, total: int | None) -> None:
        of_all = f" of {total / 1e6:,.0f}" if total else ""
        step.progress(
            int(90 * done / total) if total else 0,
            100,
            f"Downloading ClinVar {release}: {done / 1e6:,.0f}{of_all} MB",
        )

    with tempfile.TemporaryDirectory(prefix="clinvar-") as folder:
        file = Path(folder) / "variant_summary.txt.gz"
        with file.open("w+b") as download:
            archive().download(release, download, on_bytes)
        step.progress(90, 100, f"Reading ClinVar {release}")
        summary = read_summary(file, str(release))
        releases.put(str(release), summary.alleles, Path(folder))
    return summary
