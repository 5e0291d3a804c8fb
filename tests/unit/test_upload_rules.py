"""MaveDB's rules for score and count tables, each through the bytes of a small CSV file."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from tasks.upload.reading import read_table
from tasks.upload.rules import ScoreTables, Target, validate_tables

# Met Gly Tyr Ter, and two bases that make no codon
DNA = Target("GENE1", "g1", "ATGGGTTACTAAGG", "dna", None, False)
OTHER_DNA = Target("GENE2", "g2", "CCCCCC", "dna", None, False)
PROTEIN = Target("PROT", "p1", "MKV", "protein", None, False)
ACCESSION = Target("BRCA1", None, None, None, "NM_007294.4", False)
EDITED = Target("BRCA1", None, None, None, "NC_000017.11", True)


def validate(
    scores: str,
    counts: str | None = None,
    targets: Sequence[Target] = (DNA,),
    *,
    score_metadata: Mapping[str, Any] | None = None,
    count_metadata: Mapping[str, Any] | None = None,
) -> ScoreTables:
    return validate_tables(
        read_table(scores.encode(), "s.csv"),
        None if counts is None else read_table(counts.encode(), "c.csv"),
        targets,
        scores_file="s.csv",
        counts_file=None if counts is None else "c.csv",
        score_columns_metadata=score_metadata,
        count_columns_metadata=count_metadata,
    )


def refusal(*args: Any, **kwargs: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        validate(*args, **kwargs)
    assert caught.value.category is FailureCategory.VALIDATION_ERROR
    return caught.value


def details(*args: Any, **kwargs: Any) -> list[str]:
    return refusal(*args, **kwargs).details


def only_detail(*args: Any, **kwargs: Any) -> str:
    (detail,) = details(*args, **kwargs)
    return detail


def test_columns_come_in_mavedbs_order_with_every_hgvs_column_and_typed_data() -> None:
    tables = validate(
        "Class,n,score,m,flag,hgvs_pro,big\n"
        "low,1,0,4,True,p.Gly2=,170141183460469231731687303715884105727\n"
        "none,2,1e-5,NA,False,p.Gly2Tyr,1\n",
        "hgvs_pro,c0\np.Gly2=,3\np.Gly2Tyr,4\n",
        score_metadata={" 'n' ": {"description": "reads"}},
        count_metadata={"c0": {"description": "bin", "details": "first"}},
    )
    assert tables.index_column == "hgvs_pro"
    assert tables.scores.rows(named=True) == [
        {"hgvs_nt": None, "hgvs_splice": None, "hgvs_pro": "p.Gly2=", "score": 0.0}
        | {"Class": "low", "n": 1, "m": 4.0, "flag": "True", "big": 2**127 - 1},
        {"hgvs_nt": None, "hgvs_splice": None, "hgvs_pro": "p.Gly2Tyr", "score": 1e-5}
        | {"Class": None, "n": 2, "m": None, "flag": "False", "big": 1},
    ]
    assert tables.scores["n"].dtype == pl.Int64
    assert tables.scores["m"].dtype == pl.Float64
    assert tables.dataset_columns == {
        "score_columns": ["score", "Class", "n", "m", "flag", "big"],
        "count_columns": ["c0"],
        "score_columns_metadata": {"n": {"description": "reads", "details": None}},
        "count_columns_metadata": {"c0": {"description": "bin", "details": "first"}},
    }


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([], "the score set has no target"),
        ([DNA, ACCESSION], "use one kind only"),
        ([Target("G", None, None, None, None, False)], "neither a sequence nor an accession"),
        ([Target("G", None, "ACGU", "rna", None, False)], "must be dna or protein, not rna"),
        ([DNA, DNA, Target("GENE3", "g1", "ACG", "dna", None, False)], "both called g1"),
        ([Target("G", "g", "ATGNNN", "dna", None, False)], "cannot be translated"),
    ],
)
def test_targets_that_no_variant_can_be_written_against(targets: list[Target], said: str) -> None:
    assert said in str(refusal("hgvs_pro,score\np.Met1=,1\n", targets=targets))


@pytest.mark.parametrize(
    ("scores", "counts", "said"),
    [
        ("hgvs_pro,x\np.=,1\n", None, "scores s.csv: the column score is missing"),
        ("hgvs_pro,score\np.=,1\n", "hgvs_pro,score\np.=,1\n", "counts c.csv: a counts table must"),
        ("score,x\n1,2\n", None, "scores s.csv: neither hgvs_nt nor hgvs_pro holds a variant"),
        ("hgvs_pro,score\nNA,2\n", None, "scores s.csv: neither hgvs_nt nor hgvs_pro"),
        ("hgvs_pro,score\np.=,NA\n", None, "scores s.csv: column score holds no value"),
        ("hgvs_pro,score,x\np.=,1,\n", None, "scores s.csv: column x holds no value"),
        ("hgvs_pro,score\np.=,1\n", "hgvs_pro,x\np.=,\n", "counts c.csv: column x holds no value"),
        ("hgvs_pro,score\np.=,1\n", "hgvs_pro,hgvs_nt\np.=,\n", "counts c.csv: there is no data"),
        (
            "hgvs_pro,score,x\np.=,1,1.5\np.(=),1,a\np.Gly2=,1,b\n",
            None,
            "scores s.csv: column x mixes numbers (first on line 2) and text (first on line 3)",
        ),
    ],
)
def test_tables_that_lack_something(scores: str, counts: str | None, said: str) -> None:
    found = details(scores, counts)
    assert any(detail.startswith(said) for detail in found), found


def test_a_row_without_any_value_is_named_once() -> None:
    assert details("hgvs_pro,score\np.=,1\n,\n\np.(=),2\n") == [
        "scores s.csv, line 3, the row holds no value; delete it",
        "scores s.csv, line 4, the row holds no value; delete it",
    ]


def test_numbers_must_be_finite_numbers_and_are_named_with_line_and_column() -> None:
    assert details(
        "hgvs_pro,score,sd,text\n"
        '"p.=",1,inf,"two\nlines"\n'
        "p.(=),high,1,inf\n"
        "p.Gly2=,-Infinity,1e999,x\n"
        "p.Gly2Tyr,,2,x\n",
        "hgvs_pro,c0\np.=,1\np.(=),many\np.Gly2=,3\np.Gly2Tyr,INF\n",
    ) == [
        "scores s.csv: column text mixes numbers (first on line 4) and text (first on line 2);"
        " make it all numbers or all text",
        "scores s.csv, line 2, column sd: inf is not a finite number; write a finite number or"
        " leave the cell empty",
        "scores s.csv, line 4, column score: 'high' is not a number; write a number or leave the"
        " cell empty",
        "scores s.csv, line 5, column score: -Infinity is not a finite number; write a finite"
        " number or leave the cell empty",
        "scores s.csv, line 5, column sd: 1e999 is not a finite number; write a finite number or"
        " leave the cell empty",
        "counts c.csv, line 3, column c0: 'many' is not a number; write a number or leave the cell"
        " empty",
        "counts c.csv, line 5, column c0: INF is not a finite number; write a finite number or"
        " leave the cell empty",
    ]


def test_the_index_column_has_one_value_of_its_own_in_every_row() -> None:
    assert details("hgvs_nt,score\nn.1A>G,1\n,2\nn.1A>G,3\nn.1A>T,4\nn.1A>T,5\n") == [
        "scores s.csv, line 3, column hgvs_nt: is empty, but identifies the rows; fill it in every"
        " row",
        "scores s.csv, line 4, column hgvs_nt: n.1A>G is already on line 2; keep one row for each",
        "scores s.csv, line 6, column hgvs_nt: n.1A>T is already on line 5; keep one row for each",
    ]


def test_another_hgvs_column_may_be_partly_filled_and_repeat() -> None:
    scores = "hgvs_nt,hgvs_pro,score\nc.4G>A,p.Gly2Ser,1\nc.3G>A,,2\nc.4_5delinsAC,p.Gly2Ser,3\n"
    tables = validate(scores)
    assert tables.index_column == "hgvs_nt"
    assert tables.scores["hgvs_pro"].to_list() == ["p.Gly2Ser", None, "p.Gly2Ser"]


@pytest.mark.parametrize(
    "variant",
    ["p.=", "p.(=)", "p.Met1=", "p.Tyr3Ter", "p.Ter4Gly", "p.[Met1Val;Gly2=]", "p.Gly2=  p.Met1="],
)
def test_forms_of_mave_hgvs_that_agree_with_the_translated_target(variant: str) -> None:
    cell = variant.replace("  ", " ")
    assert validate(f"hgvs_pro,score\n{cell},1\n").scores["hgvs_pro"].to_list() == [cell]


@pytest.mark.parametrize(
    ("column", "variant", "said"),
    [
        ("hgvs_pro", "p.Gly2?", "p.Gly2? is not valid MAVE-HGVS; write it"),
        ("hgvs_pro", "_wt", "_wt is not valid MAVE-HGVS (it has no prefix such as c. or p.)"),
        ("hgvs_pro", "p.[Gly2=;Met1Val]", "is not valid MAVE-HGVS (multi-variants not in sorted"),
        ("hgvs_pro", "p.[Gly2_Tyr3del;Met1del]", "is not valid MAVE-HGVS (multi-variants not in"),
        ("hgvs_pro", "p.Gly" + "9" * 5000 + "Tyr", "is not valid MAVE-HGVS ("),
        (
            "hgvs_pro",
            "p.Gly4Tyr",
            "does not match the target sequence g1 (it has Ter at position 4)",
        ),
        ("hgvs_pro", "p.[Met1Val;Gly3=]", "does not match the target sequence g1 (it has Tyr at"),
        ("hgvs_pro", "p.Gly2_Gly3del", "does not match the target sequence g1 (it has Tyr at"),
        (
            "hgvs_pro",
            "p.Gly5Tyr",
            "does not match the target sequence g1 (position 5 is beyond its",
        ),
        ("hgvs_pro", "c.1A>G", "c.1A>G has the prefix c., but column hgvs_pro takes p."),
        ("hgvs_pro", "g1:p.Met1=", "g1:p.Met1= names a target"),
        ("hgvs_pro", "p.Met1=  p.Gly2=", "has a blank too many"),
        ("hgvs_nt", "n.2A>G", "does not match the target sequence g1 (it has T at position 2)"),
        ("hgvs_nt", "n.14_15del", "does not match the target sequence g1 (position 15 is beyond"),
        ("hgvs_nt", "n.1=", "n.1= is not valid MAVE-HGVS; write it"),
        ("hgvs_nt", "r.1a>g", "has the prefix r., but column hgvs_nt takes c. n. g. m. o."),
    ],
)
def test_variants_that_are_refused(column: str, variant: str, said: str) -> None:
    detail = only_detail(f"{column},score\n{variant},1\n")
    assert detail.startswith(f"scores s.csv, line 2, column {column}: ")
    assert said in detail


def test_a_cell_of_several_variants_names_the_one_at_fault() -> None:
    detail = only_detail("hgvs_pro,score\np.Met1= p.Met2= p.Gly2=,1\n")
    assert "hgvs_pro: p.Met2= does not match" in detail


def test_nucleotide_variants_need_a_dna_target() -> None:
    scores = "hgvs_nt,score\nn.1A>G,1\n"
    assert "no target is DNA" in only_detail(scores, targets=[PROTEIN])
    qualified = "hgvs_nt,score\np1:n.1A>G,1\ng1:n.1A>G,2\n"
    assert "names the protein target PROT" in only_detail(qualified, targets=[DNA, PROTEIN])


def test_several_targets_are_named_before_each_variant() -> None:
    tables = validate("hgvs_pro,score\ng1:p.Met1= p1:p.Lys2Val,1\n", targets=[DNA, PROTEIN])
    assert tables.scores["hgvs_pro"].to_list() == ["g1:p.Met1= p1:p.Lys2Val"]
    found = details(
        "hgvs_pro,score\np.Met1=,1\nx:p.Met1=,2\ng1:p1:p.Met1=,3\np1:p.Gly2=,4\n",
        targets=[DNA, PROTEIN],
    )
    said = ["must be written label:variant", "names x; the score set's targets are g1, p1"]
    said += ["must be written label:variant", "p1:p.Gly2= does not match the target sequence p1"]
    assert all(text in detail for text, detail in zip(said, found, strict=True))


def test_accessions_are_checked_by_name_and_form_only() -> None:
    scores = "hgvs_nt,score\nNM_007294.4:c.1A>C,1\n"
    assert validate(scores, targets=[ACCESSION]).index_column == "hgvs_nt"
    found = details(
        "hgvs_nt,score\nc.1A>G,1\nNM_1.1:c.1A>T,2\nNM_007294.4:c.1A,3\n", targets=[ACCESSION]
    )
    said = ["must be written accession:variant", "names NM_1.1", "NM_007294.4:c.1A is not valid"]
    assert all(text in detail for text, detail in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("nt", "splice", "pro", "accepted"),
    [
        ("n", "", "", True),
        ("c", "", "", False),
        ("g", "", "", False),
        ("c", "", "p", True),
        ("n", "", "p", False),
        ("", "", "p", True),
        ("g", "n", "", True),
        ("m", "n", "", True),
        ("g", "c", "", False),
        ("c", "n", "", False),
        ("o", "c", "p", True),
        ("g", "n", "p", False),
        ("", "c", "p", False),
    ],
)
def test_prefixes_of_the_columns_together(nt: str, splice: str, pro: str, accepted: bool) -> None:
    cells = [nt and f"{nt}.1A>G", splice and f"{splice}.1A>G", pro and "p.Met1Val"]
    scores = f"hgvs_nt,hgvs_splice,hgvs_pro,score\n{','.join(cells)},1\n"
    if accepted:
        validate(scores)
    else:
        assert "must be written with" in only_detail(scores)


def test_nucleotide_variants_of_an_accession_may_stand_alone_with_any_prefix() -> None:
    validate("hgvs_nt,score\nNM_007294.4:c.1A>G,1\n", targets=[ACCESSION])


@pytest.mark.parametrize(
    ("variants", "found"),
    [
        (["c.1A>G", "n.1A>T"], "c. (first on line 2), n. (first on line 3)"),
        (["n.1_2insA", "c.1A>G", "n.1A>T"], "n. (first on line 2), c. (first on line 3)"),
        (["c.1A>G", "n.1A>T", "n.1_2insA"], "c. (first on line 2), n. (first on line 3)"),
        (["c.1A>G n.1A>T", "n.1A>T c.1A>G"], "c. (first on line 2), n. (first on line 2)"),
    ],
)
def test_one_prefix_in_a_column(variants: Sequence[str], found: str) -> None:
    rows = "".join(f"{variant},1\n" for variant in variants)
    assert f"mixes the prefixes {found};" in only_detail(f"hgvs_nt,score\n{rows}")


def test_guides_identify_the_rows_of_a_base_editor_score_set() -> None:
    variant = "NC_000017.11:g.1A>G"
    tables = validate(
        f"hgvs_nt,guide_sequence,score\n{variant},ACGT,1\n{variant},ACGA,2\n", targets=[EDITED]
    )
    assert tables.index_column == "guide_sequence"
    assert tables.dataset_columns["score_columns"] == ["score", "guide_sequence"]
    assert tables.scores["guide_sequence"].to_list() == ["ACGT", "ACGA"]

    found = details(
        f"hgvs_nt,guide_sequence,score\n{variant},ACGT,1\n{variant},ACg,2\n{variant},ACGT,3\n",
        targets=[EDITED],
    )
    assert ["line 3" in found[0], "'ACg' is not a guide sequence" in found[0]] == [True, True]
    assert "line 4, column guide_sequence: ACGT is already on line 2" in found[1]
    assert "guide_sequence is needed" in only_detail(
        f"hgvs_nt,score\n{variant},1\n", targets=[EDITED]
    )
    assert "hgvs_nt is needed" in only_detail("guide_sequence,score\nACGT,1\n", targets=[EDITED])


def test_counts_in_another_order_are_brought_into_the_scores_order() -> None:
    tables = validate(
        "hgvs_nt,hgvs_pro,score\nc.4G>A,p.Gly2Ser,1\nc.3G>A,,2\nc.1A>G,p.Met1Val,3\n",
        "c0,hgvs_pro,hgvs_nt\n30,p.Met1Val,c.1A>G\n10,p.Gly2Ser,c.4G>A\n20,,c.3G>A\n",
    )
    assert tables.counts is not None
    assert tables.counts["c0"].to_list() == [10, 20, 30]
    assert tables.counts["hgvs_nt"].equals(tables.scores["hgvs_nt"])


def test_counts_with_other_variants_than_the_scores_are_named() -> None:
    assert details(
        "hgvs_nt,hgvs_pro,score\nc.3G>A,p.Met1Ile,1\nc.4G>A,p.Gly2Ser,2\n",
        "hgvs_nt,hgvs_pro,c0\nc.4G>A,p.Gly2Ser,1\nc.1A>G,p.Met1Val,2\n",
    ) == [
        "scores s.csv, line 2, column hgvs_nt: c.3G>A has no row in counts c.csv; add it there",
        "counts c.csv, line 3, column hgvs_nt: c.1A>G has no row in scores s.csv; add it there",
    ]


def test_counts_must_agree_in_every_hgvs_column() -> None:
    assert details(
        "hgvs_nt,hgvs_pro,score\nc.4G>A,p.Gly2Ser,1\nc.3G>A,,2\n",
        "hgvs_nt,hgvs_pro,c0\nc.3G>A,p.Met1Ile,1\nc.4G>A,p.Gly2Ser,2\n",
    ) == [
        "scores s.csv, line 3, column hgvs_pro: empty, but p.Met1Ile on line 2 of counts c.csv;"
        " make the two agree"
    ]
    assert "counts c.csv: column hgvs_pro holds no value, but it does in scores" in only_detail(
        "hgvs_nt,hgvs_pro,score\nc.4G>A,p.Gly2Ser,1\n", "hgvs_nt,c0\nc.4G>A,1\n"
    )
    assert "scores s.csv: column hgvs_nt holds no value, but it does in counts" in only_detail(
        "hgvs_pro,score\np.Gly2Ser,1\n", "hgvs_nt,hgvs_pro,c0\nc.4G>A,p.Gly2Ser,1\n"
    )


@pytest.mark.parametrize(
    ("scores_metadata", "counts_metadata", "said"),
    [
        ({"Score": {"description": "x"}}, None, "metadata for score: a standard column"),
        ({"missing": {"description": "x"}}, None, "the table has no such column"),
        ({"sd": {"details": "x"}}, None, "must have a description"),
        (None, {"c0": {"description": "x"}}, "no counts table"),
    ],
)
def test_metadata_describe_a_data_column_of_their_table(
    scores_metadata: Any, counts_metadata: Any, said: str
) -> None:
    scores = "hgvs_pro,score,sd\np.=,1,2\n"
    found = only_detail(scores, score_metadata=scores_metadata, count_metadata=counts_metadata)
    assert said in found
    validate(scores, count_metadata={})


def test_a_row_with_two_problems_counts_once() -> None:
    error = refusal("hgvs_pro,score\np.Met2=,x\np.Met1=,1\n")
    assert len(error.details) == 2
    assert "scores s.csv: 1 of 2 rows cannot be accepted: line 2, column" in str(error)


def test_the_message_counts_the_rows_and_the_details_end_after_a_thousand() -> None:
    rows = "".join(f"p.Gly{n}Tyr,{n}\n" for n in range(10, 1510))
    error = refusal(f"hgvs_pro,score\np.Met1=,1\n{rows}")
    assert "1,500 of 1,501 rows cannot be accepted: line 3, column hgvs_pro: p.Gly10Tyr" in str(
        error
    )
    assert "; and 1,497 more." in str(error)
    assert len(error.details) == 1_001
    assert error.details[-1] == "... and 500 more"
