"""Serve the simulators of the external services on loopback, in one process.

Their account and databases are those of the environment: GENBOREE_*, DATABASE_URL and
GNOMAD_DATABASE_URL.
"""

import argparse
import json
import signal
import threading
from pathlib import Path
from types import FrameType

import uvicorn
from sqlalchemy import Engine, create_engine

from deployments.local.ports import LOOPBACK
from deployments.local.simulators import (
    SIMULATORS,
    clingen,
    clinvar,
    ensembl,
    genboree,
    gnomad,
    mapper,
    uniprot,
)
from mavedb_audit.errors import ConfigurationError
from mavedb_audit.settings import settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="deployments.local.simulators", description=__doc__)
    parser.add_argument("--ports", type=json.loads, required=True, help="JSON: SIMULATORS' ports")
    parser.add_argument(
        "--mapper-answers", type=Path, help="folder of prepared answers, one a score set"
    )
    arguments = parser.parse_args()
    given = settings()
    if not (
        given.database_url
        and given.gnomad_database_url
        and given.genboree_account_name
        and given.genboree_account_password
    ):
        raise ConfigurationError(
            "The simulators need DATABASE_URL, GNOMAD_DATABASE_URL, GENBOREE_ACCOUNT_NAME and "
            "GENBOREE_ACCOUNT_PASSWORD in the environment"
        )
    apps = {
        "mapper": mapper.create_app(given.database_url, arguments.mapper_answers),
        "clingen": clingen.create_app(
            given.genboree_account_name,
            given.genboree_account_password,
            on_register=_gnomad_follows(create_engine(given.gnomad_database_url)),
        ),
        "clinvar": clinvar.create_app(),
        "uniprot": uniprot.create_app(),
        "ensembl": ensembl.create_app(),
        "genboree": genboree.create_app(
            given.genboree_account_name, given.genboree_account_password
        ),
    }
    _serve(
        [
            uvicorn.Server(
                uvicorn.Config(apps[name], LOOPBACK, arguments.ports[name], log_level="warning")
            )
            for name in SIMULATORS
        ]
    )


def _gnomad_follows(engine: Engine) -> clingen.OnRegister:
    """What gives the alleles that ClinGen registers their rows in gnomAD's table."""
    version = settings().gnomad_data_version
    with engine.begin() as connection:
        gnomad.create_table(connection, version)
    one_at_a_time = threading.Lock()

    def fill(registered: list[tuple[str, str]]) -> None:
        hgvs_of = {allele_id: hgvs for hgvs, allele_id in registered}
        with one_at_a_time, engine.begin() as connection:
            gnomad.fill(connection, version, hgvs_of, hgvs_of=hgvs_of)

    return fill


def _serve(servers: list[uvicorn.Server]) -> None:
    """Serve until SIGTERM or Ctrl-C. In threads, uvicorn leaves the signals to us."""
    threads = [threading.Thread(target=server.run) for server in servers]

    def end(_signal: int, _frame: FrameType | None) -> None:
        for server in servers:
            server.should_exit = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
