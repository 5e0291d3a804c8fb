"""How a mapper's answer becomes the current mapping: from its bytes to rows, without a mapper."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import Engine, Row, create_engine, event, text

from deployments.local.submission import insert_score_set
from mavedb_audit.errors import ServiceError
from mavedb_audit.reasons import Reason
from tasks.clients.vrs_mapper import read_answer
from tasks.map_variants_for_score_set import Findings, replace_mapping

URN = "tmp:5b9c1ac9-3b93-4c42-9c52-0a9a7c5d1a10"
LAYERS = {"p": {"mapped_reference_sequence": {"sequence_accessions": ["NP_009225.1"]}}}
HEAD = {
    "dcd_mapping_version": "2025.2.0",
    "mapped_date_utc": "2026-02-04T10:00:00",
    "metadata": {},
    "reference_sequences": {"BRCA1": {"gene_info": {"hgnc_symbol": "BRCA1"}, "layers": LAYERS}},
}
VARIANTS = 300


def record(number: int, *, place: int | None = None, **more: Any) -> dict[str, Any]:
    place = number if place is None else place
    allele = {"type": "Allele", "location": {"start": place, "end": place + 1}}
    value = f"NP_009225.1:p.Met{place}Val"
    return {
        "mavedb_id": f"{URN}#{number}",
        "vrs_version": "2",
        "pre_mapped": allele,
        "post_mapped": {**allele, "expressions": [{"syntax": "hgvs.p", "value": value}]},
        **more,
    }


def answer(*records: dict[str, Any]) -> bytes:
    return json.dumps({**HEAD, "mapped_scores": records}).encode()


@dataclass(frozen=True)
class ScoreSet:
    engine: Engine
    score_set_id: int
    id_of: dict[str, int]

    def map(self, content: bytes) -> Findings:
        with self.engine.begin() as connection:
            result = read_answer(BytesIO(content))
            return replace_mapping(connection, self.score_set_id, result, self.id_of)

    def rows(self) -> list[Row[Any]]:
        query = "SELECT * FROM mapped_variants WHERE current ORDER BY variant_id"
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)))

    def row(self, number: int) -> Row[Any]:
        (row,) = [r for r in self.rows() if r.variant_id == self.id_of[f"{URN}#{number}"]]
        return row


@pytest.fixture
def score_set(domain_database: str) -> Iterator[ScoreSet]:
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        score_set_id, _ = insert_score_set(
            connection,
            urn=URN,
            title=URN,
            target_name="BRCA1",
            sequence="ATG",
            sequence_type="dna",
            user="curator",
        )
        rows = connection.execute(
            text(
                """
                INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
                SELECT :urn || '#' || n, '{}', :score_set_id, CURRENT_DATE, CURRENT_DATE
                  FROM generate_series(1, :variants) AS n
                RETURNING urn, id
                """
            ),
            {"urn": URN, "score_set_id": score_set_id, "variants": VARIANTS},
        )
        id_of = {row.urn: row.id for row in rows}
    yield ScoreSet(engine, score_set_id, id_of)
    engine.dispose()


def test_records_that_say_the_same_are_one_however_they_are_written(score_set: ScoreSet) -> None:
    first = record(1, pre_mapped={"start": 1, "type": "Allele"})
    again = record(1, pre_mapped={"type": "Allele", "start": 1.0})

    findings = score_set.map(answer(first, record(2), again))

    assert len(score_set.rows()) == 2
    assert score_set.row(1).pre_mapped == {"start": 1, "type": "Allele"}
    status = findings.status(score_set.id_of[f"{URN}#1"])
    assert status.reason is None
    assert status.data == {"mapped_assay_level_hgvs": "NP_009225.1:p.Met1Val"}


@pytest.mark.parametrize(
    "other",
    [
        record(1, place=9),
        record(1, vrs_version="1.3"),
        record(1, pre_mapped=None, post_mapped=None, error_message="Variant is intronic"),
        record(1, outcome="intronic"),
        record(1, post_mapped="text"),
    ],
    ids=["place", "version", "not mapped", "outcome", "malformed"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_records_that_differ_none_is_believed(
    score_set: ScoreSet, other: dict[str, Any], turned: bool
) -> None:
    pair = [other, record(1)] if turned else [record(1), other]

    findings = score_set.map(answer(*pair, record(2), record(1)))

    assert len(score_set.rows()) == 2
    row = score_set.row(1)
    assert (row.pre_mapped, row.post_mapped, row.vrs_version) == (None, None, None)
    status = findings.status(score_set.id_of[f"{URN}#1"])
    assert (status.reason, status.addition) == (Reason.MALFORMED_RECORD, row.error_message)
    assert row.error_message == "There are several, and they differ."
    assert score_set.row(2).post_mapped == record(2)["post_mapped"]
    assert findings.vrs_version == "2"


def test_a_new_mapping_takes_the_place_of_the_old_one(score_set: ScoreSet) -> None:
    score_set.map(answer(*(record(n) for n in range(1, VARIANTS + 1))))
    score_set.map(answer(record(1, place=77), record(1, place=77)))

    assert [row.post_mapped for row in score_set.rows()] == [record(1, place=77)["post_mapped"]]
    with score_set.engine.connect() as connection:
        all_rows = connection.execute(text("SELECT count(*) FROM mapped_variants")).scalar_one()
    assert all_rows == VARIANTS + 1


def test_an_answer_that_breaks_off_leaves_the_old_mapping(score_set: ScoreSet) -> None:
    score_set.map(answer(record(1)))
    whole = answer(*(record(n, place=77) for n in range(1, VARIANTS + 1)))

    with pytest.raises(ServiceError, match="breaks off"):
        score_set.map(whole[:-1])

    assert [row.post_mapped for row in score_set.rows()] == [record(1)["post_mapped"]]


def test_the_number_of_statements_does_not_grow_with_the_variants(score_set: ScoreSet) -> None:
    statements: list[str] = []
    event.listen(
        score_set.engine, "before_cursor_execute", lambda *context: statements.append(context[2])
    )
    counts = []
    for variants in (1, VARIANTS):
        statements.clear()
        records = [record(n) for n in range(1, variants + 1)]
        score_set.map(answer(*records, *records))
        counts.append(len(statements))
    assert counts[0] == counts[1] > 0


def test_no_more_of_the_answer_is_read_than_the_scores_that_were_taken() -> None:
    body = BytesIO(answer(*(record(n) for n in range(20_000))))
    size = len(body.getvalue())

    result = read_answer(body)
    assert body.tell() < size / 20
    scores = result.scores()
    next(scores)
    assert body.tell() < size / 20
    for _ in range(9_999):
        next(scores)
    assert body.tell() < size * 0.55


@pytest.mark.parametrize("late", ["dcd_mapping_version", "mapped_date_utc", "reference_sequences"])
def test_what_comes_after_the_scores_is_read_all_the_same(late: str) -> None:
    early = {name: value for name, value in HEAD.items() if name != late}
    content = json.dumps({**early, "mapped_scores": [record(1)], late: HEAD[late]}).encode()

    result = read_answer(BytesIO(content))

    assert result.mapper_version == "2025.2.0"
    assert result.mapped_date.isoformat() == "2026-02-04"
    assert [reference.hgnc_symbol for reference in result.references] == ["BRCA1"]
    assert [score.variant_urn for score in result.scores()] == [f"{URN}#1"]
