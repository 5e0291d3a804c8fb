"""The VRS mapper's simulator: dcd_mapping2's one route, with its errors.

It answers from a prepared file where there is one for the score set, else it reads the committed
score set from the domain database (the real mapper: through MaveDB's API) and computes an answer.

Besides the generic fault kinds it knows: drop_variants (leaves out every third), all_failed,
set_error (`body` is the text), unknown_variant, unknown_target, no_references, generation_a,
generation_c, empty ({}) and null. A prepared answer of another generation than B cannot be
rewritten by generation_a or generation_c.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from deployments.local.simulators.faults import Fault, attach_faults, own_fault
from deployments.local.simulators.mapper_envelope import (
    Head,
    Record,
    as_json,
    generation_a,
    generation_b,
    generation_c,
)
from deployments.local.simulators.mapper_variants import (
    Target,
    TargetVariant,
    map_variants,
    reference_sequences,
)
from mavedb_audit.settings import Settings

_JSON = "application/json"

OWN_KINDS = frozenset(
    {
        "drop_variants",
        "all_failed",
        "set_error",
        "unknown_variant",
        "unknown_target",
        "no_references",
        "generation_a",
        "generation_c",
        "empty",
        "null",
    }
)

_TARGETS = text(
    """
    SELECT target.name, own.sequence_type, own.sequence, own.label, reference.accession
      FROM scoresets
      JOIN target_genes AS target ON target.scoreset_id = scoresets.id
      LEFT JOIN target_sequences AS own ON own.id = target.target_sequence_id
      LEFT JOIN target_accessions AS reference ON reference.id = target.accession_id
     WHERE scoresets.urn = :urn
     ORDER BY target.id
    """
)
_VARIANTS = text(
    """
    SELECT variants.urn, variants.hgvs_nt, variants.hgvs_pro,
           CAST(variants.data #>> '{score_data,score}' AS double precision) AS score
      FROM scoresets
      JOIN variants ON variants.scoreset_id = scoresets.id
     WHERE scoresets.urn = :urn
     ORDER BY variants.id
    """
)


class ScoreSetError(Exception):
    """The score set as a whole cannot be mapped."""


def create_app(database_url: str, replay_dir: Path | None) -> FastAPI:
    """`replay_dir` holds prepared answers, called by the URN with _ for : (.json or .json.gz)."""
    app = FastAPI(title="Simulated VRS mapper")
    attach_faults(app, OWN_KINDS)
    engine = create_engine(
        Settings(database_url=database_url).sqlalchemy_url,
        poolclass=NullPool,
        connect_args={"connect_timeout": 5},
    )

    @app.post("/api/v1/map/{urn}", response_model=None)
    def map_score_set(urn: str, request: Request) -> Response:
        fault = own_fault(request)
        if fault and fault.kind in {"empty", "null"}:
            return Response("{}" if fault.kind == "empty" else "null", media_type=_JSON)
        try:
            if fault and fault.kind == "set_error":
                raise ScoreSetError(fault.body or "Experiment for URN contains non-human targets")
            head, records = _replay(replay_dir, urn) or _compute(engine, urn)
        except ScoreSetError as error:
            answer = {"metadata": {"urn": urn}, "error_message": str(error)}
            return Response(json.dumps(answer), media_type=_JSON)
        if fault:
            head, records = _spoil(fault, head, records, urn)
        return StreamingResponse(as_json(head, records), media_type=_JSON)

    return app


def _replay(replay_dir: Path | None, urn: str) -> tuple[Head, Iterable[Record]] | None:
    if replay_dir is None:
        return None
    name = urn.replace(":", "_")
    plain, packed = replay_dir / f"{name}.json", replay_dir / f"{name}.json.gz"
    if plain.exists():
        answer = json.loads(plain.read_bytes())
    elif packed.exists():
        answer = json.loads(gzip.decompress(packed.read_bytes()))
    else:
        return None
    return answer, answer.pop("mapped_scores")


def _compute(engine: Engine, urn: str) -> tuple[Head, Iterable[Record]]:
    try:
        with engine.connect() as connection:
            targets = [Target(*row) for row in connection.execute(_TARGETS, {"urn": urn})]
            variants = [TargetVariant(*row) for row in connection.execute(_VARIANTS, {"urn": urn})]
    except (OperationalError, ProgrammingError) as error:
        raise _not_acquired(str(error.orig)) from error
    if not targets:
        raise _not_acquired(f"404 Not Found: score set {urn}")
    if not variants:
        raise ScoreSetError("Score set contains no variants to map")
    head = generation_b(urn, reference_sequences(variants, targets))
    return head, map_variants(variants, targets)


def _not_acquired(why: str) -> HTTPException:
    return HTTPException(500, f"Unable to acquire resource from MaveDB: {why}")


def _spoil(
    fault: Fault, head: Head, records: Iterable[Record], urn: str
) -> tuple[Head, Iterable[Record]]:
    match fault.kind:
        case "drop_variants":
            return head, (record for n, record in enumerate(records) if n % 3 != 1)
        case "all_failed":
            return head, (_failed(record) for record in records)
        case "unknown_variant":
            return head, _with_stranger(records, urn)
        case "unknown_target":
            targets = dict(head["reference_sequences"])
            targets["a target that nobody knows"] = next(iter(targets.values()))
            return {**head, "reference_sequences": targets}, records
        case "no_references":
            return {k: v for k, v in head.items() if "reference_sequence" not in k}, records
        case "generation_a":
            return generation_a(head, records)
        case "generation_c":
            return generation_c(head, records)
        case _:
            raise ValueError(f"no such kind: {fault.kind}")


def _failed(record: Record) -> dict[str, Any]:
    kept = {k: v for k, v in record.items() if k not in {"pre_mapped", "post_mapped"}}
    return {**kept, "error_message": "Variant could not be mapped (switched on in the simulator)"}


def _with_stranger(records: Iterable[Record], urn: str) -> Iterator[Record]:
    yield from records
    yield {"mavedb_id": f"{urn}#999999999", "error_message": "Variant is of another upload"}
