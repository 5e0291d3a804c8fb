"""What VEP's and the Variant Recoder's answers come to, in shapes that are hard to provoke."""

from typing import Any

import pytest

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.reasons import Reason
from tasks.clients.vep_answers import (
    SKIPPED,
    Absent,
    Consequence,
    Malformed,
    NotAnswered,
    Query,
    Refused,
    Source,
    combine,
    query_of,
    read_consequences,
    read_recoded,
    refusal,
)
from tasks.populate_vep_for_score_set import askable

HGVS = "NM_013275.6:c.7407C>G"
OTHER = {"transcript_id": "NM_001256182.2", "consequence_terms": ["stop_gained"]}


def entry(*transcripts: dict[str, Any], **more: Any) -> dict[str, Any]:
    usual = {"input": HGVS, "most_severe_consequence": "stop_gained"}
    return usual | {"transcript_consequences": list(transcripts)} | more


def own(*terms: Any, version: str = ".6") -> dict[str, Any]:
    return {"transcript_id": f"NM_013275{version}", "consequence_terms": list(terms)}


def on_transcript(term: str, version: str = ".6") -> Consequence:
    return Consequence(term, Source.TRANSCRIPT, f"NM_013275{version}")


REFUSED = Refused(FailureCategory.INVALID_HGVS, "No such base.", was_read=True)


@pytest.mark.parametrize(
    ("entries", "outcome"),
    [
        # The wanted transcript wins over what is worse elsewhere, whatever its version.
        ([entry(OTHER, own("synonymous_variant"))], on_transcript("synonymous_variant")),
        ([entry(own("intron_variant", version=".7"))], on_transcript("intron_variant", ".7")),
        ([entry(own("intron_variant", version=""))], on_transcript("intron_variant", "")),
        # Terms come in any order; one that is unknown is kept, and ranks last.
        (
            [entry(own("start_lost", "frameshift_variant"))],
            on_transcript("frameshift_variant"),
        ),
        ([entry(own("novel_variant"))], on_transcript("novel_variant")),
        ([entry(own("novel_variant", "sequence_variant"))], on_transcript("sequence_variant")),
        # Without it, the worst of all.
        ([entry(OTHER)], Consequence("stop_gained", Source.MOST_SEVERE)),
        (
            [{"input": HGVS, "most_severe_consequence": "intergenic_variant"}],
            Consequence("intergenic_variant", Source.MOST_SEVERE),
        ),
        # Of several places, the worst.
        (
            [entry(own("intron_variant")), entry(own("missense_variant"))],
            on_transcript("missense_variant"),
        ),
        (
            [entry(own("intron_variant")), {"input": HGVS, "error": "No such base."}],
            on_transcript("intron_variant"),
        ),
        ([{"input": HGVS, "error": "No such base."}], REFUSED),
        ([{"input": HGVS}], SKIPPED),
        ([{"input": HGVS, "id": HGVS}, {"input": HGVS, "error": "No such base."}], REFUSED),
    ],
)
def test_the_consequence_of_an_answer(entries: list[Any], outcome: object) -> None:
    wanted = query_of(HGVS)
    assert read_consequences(entries, {HGVS: [wanted.transcript]}) == {
        HGVS: {wanted.transcript: outcome}
    }


@pytest.mark.parametrize(
    "broken",
    [
        entry(transcript_consequences="none"),
        entry(transcript_consequences=None),
        entry({"consequence_terms": ["stop_gained"]}),
        entry(own(7)),
        entry({"transcript_id": "NM_013275.6", "consequence_terms": "stop_gained"}),
        entry(OTHER, most_severe_consequence=None),
        entry(OTHER, most_severe_consequence=["stop_gained"]),
    ],
)
def test_what_cannot_be_read_might_have_been_the_worst(broken: dict[str, Any]) -> None:
    wanted = query_of(HGVS).transcript
    answers = read_consequences(
        [entry(own("intron_variant")), broken], {HGVS: [wanted], "NM_1.1:c.1del": ["NM_1"]}
    )
    assert answers.keys() == {HGVS}
    assert isinstance(answers[HGVS][wanted], Malformed)


@pytest.mark.parametrize("stray", ["text", None, {}, {"input": 7}, {"input": "NM_9.9:c.9del"}])
def test_with_a_stray_entry_nobody_knows_what_was_left_out(stray: object) -> None:
    answers = read_consequences(
        [stray, entry(own("intron_variant"))], {HGVS: ["NM_013275"], "NM_1.1:c.1del": ["NM_1"]}
    )
    assert answers[HGVS] == {"NM_013275": on_transcript("intron_variant")}
    assert isinstance(answers["NM_1.1:c.1del"]["NM_1"], Malformed)


@pytest.mark.parametrize(
    ("notation", "transcript", "on_refseq"),
    [
        ("NM_013275.6:c.7407C>G", "NM_013275", True),
        ("NM_013275.6(ANKRD11):c.7407C>G", "NM_013275", True),
        ("NR_045839.2:n.1del", "NR_045839", True),
        ("XM_006724468.3:c.1del", "XM_006724468", True),
        ("ENST00000366667.6:c.803C>T", "ENST00000366667", False),
        ("ENST00000366667:c.803C>T", "ENST00000366667", False),
        ("NC_000017.11:g.43045711G>T", None, False),
    ],
)
def test_the_transcript_that_a_notation_is_written_on(
    notation: str, transcript: str | None, on_refseq: bool
) -> None:
    assert query_of(notation) == Query(notation, transcript)
    assert query_of(notation).on_refseq is on_refseq


def test_a_recoded_alleles_places_on_chromosomes_are_taken() -> None:
    first, second = "NM_1.1:c.1A>T", "NP_1.1:p.Met1Val"
    answer = [
        {
            "T": {
                "input": first,
                "hgvsg": ["NG_1.1:g.5A>T", "NC_000001.11:g.5A>T", "LRG_1:g.1del"],
            },
            "warnings": ["The version was changed."],
        },
        {
            "G": [{"input": second, "hgvsg": ["NC_000002.12:g.7A>G"]}],
            "C": {"input": second, "hgvsg": ["NC_000002.12:g.7A>C", "NC_000002.12:g.7A>G"]},
            "input": second,
        },
        {"warnings": ["Unable to parse"], "input": "NM_2.1:c.1A>T"},
        {"A": {"input": "NM_3.1:c.1A>T", "hgvsg": ["LRG_1:g.1A>T"]}},
        {"A": {"input": "NM_4.1:c.1A>T"}},
    ]
    asked = [first, second, *(f"NM_{number}.1:c.1A>T" for number in (2, 3, 4))]
    assert read_recoded(answer, asked) == {
        first: ("NC_000001.11:g.5A>T",),
        second: ("NC_000002.12:g.7A>G", "NC_000002.12:g.7A>C"),
    }


@pytest.mark.parametrize(
    "odd", ["text", None, {"-": {"input": "NM_9.9:c.9del", "hgvsg": []}}, {"-": {"input": 7}}]
)
def test_with_a_stray_recoded_allele_nobody_knows_what_was_left_out(odd: object) -> None:
    good = {"A": {"input": HGVS, "hgvsg": ["NC_000001.11:g.5A>T"]}}
    answers = read_recoded([odd, good], [HGVS, "NM_1.1:c.1del"])
    assert answers[HGVS] == ("NC_000001.11:g.5A>T",)
    assert isinstance(answers["NM_1.1:c.1del"], Malformed)


@pytest.mark.parametrize("places", ["NC_000001.11:g.5A>T", None, [7]])
def test_a_recoding_that_cannot_be_read_is_no_absence(places: object) -> None:
    answers = read_recoded([{"A": {"input": HGVS, "hgvsg": places}}], [HGVS, "NM_1.1:c.1del"])
    assert answers.keys() == {HGVS}
    assert isinstance(answers[HGVS], Malformed)


def test_of_a_recoded_notation_any_failure_is_its_failure() -> None:
    worse = Consequence("stop_gained", Source.MOST_SEVERE)
    milder = Consequence("intron_variant", Source.MOST_SEVERE)
    absent = Absent("Left out.")
    failed = NotAnswered(ServiceError("Ensembl", "503", FailureCategory.SERVICE_UNAVAILABLE))

    places = ("NC_1", "NC_2")
    assert combine([milder, worse], places) == Consequence(
        "stop_gained", Source.MOST_SEVERE, None, places
    )
    assert combine([absent, milder], places) == Consequence(
        "intron_variant", Source.MOST_SEVERE, None, places
    )
    assert combine([absent, absent], places) is absent
    for failure in (failed, REFUSED, Malformed("?")):
        assert combine([worse, failure], places) is failure


def test_a_reference_that_does_not_match_is_told_from_what_cannot_be_read() -> None:
    mismatch = (
        "Unable to parse HGVS notation '9:g.21974696A>T': Reference allele extracted from"
        " 9:21974696-21974696 (T) does not match reference allele given by HGVS notation"
        " 9:g.21974696A>T (A)"
    )
    assert refusal(mismatch) == Refused(FailureCategory.REFERENCE_MISMATCH, mismatch)
    unread = "Unable to parse HGVS notation 'NM_1.1:c.oops'"
    assert refusal(unread) == Refused(FailureCategory.INVALID_HGVS, unread)


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ("NM_013275.6:c.7407C>G", "NM_013275.6:c.7407C>G"),
        ("NC_000012.12:g.10_12CAG[3]", "NC_000012.12:g.10_12CAG[3]"),
        ("NP_037407.4:p.Tyr2469Ter", Reason.PROTEIN_LEVEL_ALLELE),
        ("NM_013275.6:c.[1A>G;5C>T]", Reason.MULTI_VARIANT),
        ("", Reason.NO_HGVS),
    ],
)
def test_what_vep_is_asked_about(value: str, asked: str | Reason) -> None:
    mapped = {"type": "Allele", "expressions": [{"syntax": "hgvs.x", "value": value}]}
    assert askable(mapped) == asked
