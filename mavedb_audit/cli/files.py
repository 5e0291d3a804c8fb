"""The commands that give files back."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mavedb_audit.cli.application import LOOK, Output, ScoreSetURN, command
from mavedb_audit.cli.output import DONE, FOUND_PROBLEMS, show, tell, write_json
from mavedb_audit.cli.reaching import database
from mavedb_audit.errors import ServiceError, StepError


@command(
    "uploads",
    LOOK,
    "mavedb-audit uploads urn:mavedb:00000001-a-1",
    "mavedb-audit uploads urn:mavedb:00000001-a-1 --save folder",
)
def uploads(
    urn: Annotated[str, Parameter(help="URN of a score set or of a pipeline.")],
    /,
    *,
    save: Annotated[Path | None, Parameter(help="A folder to write the files into.")] = None,
    output: Output = "table",
) -> int:
    """List the files that were uploaded for a score set or a pipeline, and give them back.

    With --save each file is written below the folder under its key, if it is still the one that was
    recorded; nothing is overwritten. Exits 1 when a file differs or is gone.
    """

    from mavedb_audit import uploads as kept
    from mavedb_audit.cli import audit_text
    from mavedb_audit.database import check_schema

    with database() as connection:
        check_schema(connection)
        found = kept.find(connection, urn)
    if output == "json":
        write_json(found)
    else:
        show(*audit_text.uploads(found))
    if not found:
        tell(f"no file of {urn} is recorded: that happens when it is first read, at the latest")
    if save is None:
        return DONE
    # Pipelines that were asked for with one file share it.
    files = {(upload.key, upload.digest): upload for upload in found}.values()
    for upload in files:
        kept.path_in(save, upload)
    problems = 0
    for upload in files:
        try:
            tell(f"saved {kept.save(upload, save)}")
        except ServiceError:
            raise  # the store does not answer: it would not for the next file either
        except StepError as error:
            problems += 1
            tell(str(error), style="red")
    return FOUND_PROBLEMS if problems else DONE


@command(
    "export",
    LOOK,
    "mavedb-audit export urn:mavedb:00000001-a-1 --folder provenance",
)
def export(
    score_set_urn: ScoreSetURN,
    /,
    *,
    folder: Annotated[Path, Parameter(help="Where to write the files; it is made if need be.")],
    overwrite: Annotated[bool, Parameter(help="Replace the files, where they are there.")] = False,
    output: Output = "table",
) -> int:
    """Write the provenance of every annotation of a score set, as W3C PROV and as Parquet."""
    from mavedb_audit import provenance

    with database() as connection:
        exported = provenance.export(connection, score_set_urn, folder, overwrite=overwrite)
    if output == "json":
        write_json(exported)
    else:
        show(str(exported.prov), str(exported.parquet))
    return DONE
