"""The main job on real score sets, through the real worker and PostgreSQL."""

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from deployments.local.simulators.mapper_replay import replay_answer
from deployments.local.submission import read_export
from tests.support import MaveDB, Submitted, wait_until

#: Score sets whose target is known and matches: URN's number, FASTA, rows. Others are in
#: test_uploads.py.
ACCEPTED = [
    ("00000041-a-1", "Src_catalytic_domain", 5),
    ("00000068-a-1", "TP53_P72R", 47),
    ("00000093-a-1", "BRCA1_translation_start_through_RING_domain", 853),
]
#: Score sets that MaveDB's rules refuse: rows named in the message, and what it says of them.
REFUSED = [
    ("00000001-a-1", "UBE2I", 20, "it has Ter at position 159"),
    ("00000018-a-1", "HBB_promoter", None, "n.1= is not valid MAVE-HGVS"),
    ("00000002-a-2", "hYAP65_WW_domain", None, "p.Gln26? is not valid MAVE-HGVS"),
]
REPLAYED_URN = "urn:mavedb:00000081-a-1"

Generation = Literal["A", "B", "C"]


def submit(mavedb: MaveDB, data: Path, number: str, target: str) -> Submitted:
    folder = data / "scoresets"
    export = read_export(
        folder / f"urn_mavedb_{number}_scores.csv", None, folder / "targets" / f"{target}.fasta"
    )
    assert export.urn == f"urn:mavedb:{number}"
    return mavedb.submit(
        export.scores_csv,
        target=export.sequence,
        sequence_type=export.sequence_type,
        urn=export.urn,
    )


@pytest.fixture(scope="module")
def submitted_sets(mavedb: MaveDB, data: Path, replayed: "Replayed") -> dict[str, Submitted]:
    """All of them by their number, on their way side by side."""
    del replayed  # on its way as well
    named = [(number, target) for number, target, *_ in [*ACCEPTED, *REFUSED]]
    return {number: submit(mavedb, data, number, target) for number, target in named}


@pytest.mark.parametrize(("number", "target", "rows"), ACCEPTED)
def test_a_real_score_set_is_accounted_for(
    mavedb: MaveDB,
    submitted_sets: dict[str, Submitted],
    number: str,
    target: str,  # noqa: ARG001 - names the case
    rows: int,
) -> None:
    submitted = submitted_sets[number]
    assert mavedb.wait_for(submitted) == "succeeded"
    assert (
        mavedb.value(
            "SELECT count(*) FROM variants WHERE scoreset_id = :id", id=submitted.score_set_id
        )
        == rows
    )
    mavedb.assert_every_variant_is_accounted_for(submitted)
    assert_prefect_agrees(mavedb, submitted)


@pytest.mark.parametrize(("number", "target", "rows", "says"), REFUSED)
def test_a_real_score_set_that_breaks_the_rules_is_refused_row_by_row(
    mavedb: MaveDB,
    submitted_sets: dict[str, Submitted],
    number: str,
    target: str,  # noqa: ARG001 - names the case
    rows: int | None,
    says: str,
) -> None:
    submitted = submitted_sets[number]
    assert mavedb.wait_for(submitted) == "failed"
    job = mavedb.jobs(submitted)["create_variants_for_score_set"]
    assert job.failure_category == "validation_error"
    errors = mavedb.value(
        "SELECT processing_errors FROM scoresets WHERE id = :id", id=submitted.score_set_id
    )
    assert errors["exception"] == job.error_message
    if rows is not None:
        assert f"{rows} of " in job.error_message
        assert len(errors["detail"]) == rows
    assert any(says in detail for detail in errors["detail"])
    assert (
        mavedb.value(
            "SELECT count(*) FROM variants WHERE scoreset_id = :id", id=submitted.score_set_id
        )
        == 0
    )
    assert_prefect_agrees(mavedb, submitted)


@dataclass(frozen=True)
class Replayed:
    """A whole score set whose real mapping the simulated mapper gives."""

    submitted: Submitted
    rows: list[dict[str, str]]
    exported: list[dict[str, Any]]
    answer: Path

    def prepare(self, generation: Generation) -> None:
        answer = replay_answer(self.exported, self.rows, REPLAYED_URN, generation)
        self.answer.write_text(json.dumps(answer))


@pytest.fixture(scope="module")
def replayed(mavedb: MaveDB, data: Path) -> Replayed:
    scores = (data / "scoresets" / "urn_mavedb_00000081-a-1_scores.csv").read_text()
    rows = list(csv.DictReader(scores.splitlines()))
    packed = data / "mapping" / "urn_mavedb_00000081-a-1_mapped_variants.json.gz"
    exported = json.loads(gzip.decompress(packed.read_bytes()))
    answer = mavedb.stack.mapper_answers / f"{REPLAYED_URN.replace(':', '_')}.json"
    Replayed(Submitted(0, "", 0, 0, ""), rows, exported, answer).prepare("B")
    submitted = mavedb.submit(
        without_accessions(rows),
        target=sequence_of(rows),
        sequence_type="protein",
        urn=REPLAYED_URN,
    )
    return Replayed(submitted, rows, exported, answer)


def test_a_real_mapping_goes_through_the_whole_job(mavedb: MaveDB, replayed: Replayed) -> None:
    submitted = replayed.submitted
    assert mavedb.wait_for(submitted) == "succeeded"
    mavedb.assert_every_variant_is_accounted_for(submitted)
    assert_mapping_is_the_captured_one(mavedb, replayed, "failed", "vrs_mapping_failed")
    account = mavedb.account(submitted)
    assert account["clingen_allele_id", "skipped", "not_mapped"] == 2
    protein = account["gnomad_allele_frequency", "skipped", "protein_level_allele"]
    assert protein == account["clingen_allele_id", "success", None] > 1_000


@pytest.mark.parametrize(
    ("generation", "status", "reason"),
    [("A", "failed", "not_returned_by_mapper"), ("C", "skipped", "nothing_to_map")],
)
def test_other_generations_of_the_mapper_give_the_same_mapping(
    mavedb: MaveDB, replayed: Replayed, generation: Generation, status: str, reason: str
) -> None:
    replayed.prepare(generation)
    again = mavedb.request("map_variants_for_score_set", replayed.submitted)
    assert mavedb.wait_for(again) == "succeeded"
    assert_mapping_is_the_captured_one(mavedb, replayed, status, reason)


def assert_mapping_is_the_captured_one(
    mavedb: MaveDB, replayed: Replayed, status: str, reason: str
) -> None:
    """All but p.= and p.(=), of which each generation of the mapper says something else."""
    account = mavedb.account(replayed.submitted)
    assert {key: n for key, n in account.items() if key[0] == "vrs_mapping"} == {
        ("vrs_mapping", "success", None): 1_059,
        ("vrs_mapping", status, reason): 2,
    }
    stored = mavedb.rows(
        """
        SELECT variants.hgvs_pro, mapped.post_mapped
          FROM variants JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id
         WHERE scoreset_id = :id AND mapped.current AND mapped.post_mapped IS NOT NULL
        """,
        id=replayed.submitted.score_set_id,
    )
    captured = {
        row["postMapped"]["expressions"][0]["value"].partition(":")[2]: row["postMapped"]
        for row in replayed.exported
        if row["current"]
    }
    assert {row.hgvs_pro: row.post_mapped for row in stored} == captured


def without_accessions(rows: list[dict[str, str]]) -> str:
    columns = [name for name in rows[0] if name != "accession"]
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]
    return "\n".join(lines)


def sequence_of(rows: list[dict[str, str]]) -> str:
    """A protein that every variant matches: what they say of it, and alanine in between."""
    from mavehgvs import Variant
    from mavehgvs.variant import AA_3_TO_1

    residues: dict[int, str] = {}
    for row in rows:
        positions: Any = Variant(row["hgvs_pro"]).positions
        if positions is not None and not isinstance(positions, tuple):
            residues[positions.position] = AA_3_TO_1[positions.amino_acid]
    return "".join(residues.get(n, "A") for n in range(1, max(residues) + 1))


def assert_prefect_agrees(mavedb: MaveDB, submitted: Submitted) -> None:
    """Job and pipeline rows say what Prefect's final states say."""
    flow_run = mavedb.flow_run(submitted)
    status = mavedb.value("SELECT status FROM pipelines WHERE id = :id", id=submitted.pipeline_id)
    assert {"COMPLETED": "succeeded", "FAILED": "failed"}[flow_run["state_type"]] == status

    jobs = mavedb.jobs(submitted)
    expected = {"COMPLETED": "succeeded", "FAILED": "failed", "PENDING": "skipped"}

    def final_states() -> dict[str, str] | None:
        states = {run["name"]: run["state_type"] for run in mavedb.task_runs(submitted)}
        settled = len(states) == len(jobs) - 1 and "RUNNING" not in states.values()
        return states if settled else None

    states = wait_until(final_states)
    assert {key: expected[state] for key, state in states.items()} == {
        key: job.status for key, job in jobs.items() if key != "start_pipeline"
    }
