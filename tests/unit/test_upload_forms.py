"""Whatever is said of a column's variants, MAVE-HGVS's parser says it of each alone."""

from collections.abc import Sequence

from fqfa.constants import AA_CODES
from hypothesis import example, given
from hypothesis import strategies as st

from mavedb_audit.errors import StepError
from tasks.upload.hgvs import validate_accession_variants, validate_sequence_variants
from tasks.upload.reading import read_table
from tasks.upload.rules import Target, validate_tables

# Met Gly Tyr Ter, and a base that makes no codon
DNA = Target("GENE1", "g1", "ATGGGTTACTAAG", "dna", None, False)
# Of its third amino acid no variant can speak.
PROTEIN = Target("PROT", "p1", "MKXV", "protein", None, False)
ACCESSION = Target("BRCA1", None, None, None, "NM_007294.4", False)


def joined(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(p) if isinstance(p, str) else p for p in parts)).map("".join)


def variants(prefixes: str, changes: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(changes, min_size=1, max_size=4).map(";".join)
    return joined(st.sampled_from(prefixes), ".", changes | joined("[", several, "]"))


# Mostly within the targets and as they are there.
positions = st.integers(0, 15).map(str) | st.sampled_from(["01", "3+1", "-2", "*1", "9" * 12])
bases = st.sampled_from("ACGTN")
nucleotides = joined(positions, bases) | st.sampled_from(
    [f"{n}{base}" for n, base in enumerate(str(DNA.sequence), start=1)]
)
places = positions | joined(positions, "_", positions)
nucleotide_changes = st.one_of(
    joined(nucleotides, ">", bases),
    joined(places, st.sampled_from(["del", "dup", "=", "", "inv"])),
    joined(places, st.sampled_from(["delins", "ins"]), st.text("ACGT", max_size=3)),
)
residues = joined(st.sampled_from(["Met", "Tyr", "Ter", "Xaa"]), positions) | st.sampled_from(
    [f"{AA_CODES[acid]}{n}" for n, acid in enumerate(DNA.amino_acids(), start=1)]
)
stretches = residues | joined(residues, "_", residues)
protein_changes = st.one_of(
    st.sampled_from(["=", "(=)"]),
    joined(residues, st.sampled_from(["Met", "Lys", "Ter", "Xaa", "=", "fs", "?"])),
    joined(stretches, st.sampled_from(["del", "dup", "=", ""])),
    joined(stretches, st.sampled_from(["delins", "ins"]), st.sampled_from(["", "Val", "LysTer"])),
)
nucleotide_variants = variants("cngmo", nucleotide_changes)
protein_variants = variants("p", protein_changes)


def columns(of: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(of, min_size=1, max_size=20, unique=True)


def said(column: str, cells: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """What is said of the rows of a table with this column."""
    table = f"{column},score\n" + "".join(f"{cell},1\n" for cell in cells)
    try:
        validate_tables(
            read_table(table.encode(), "s.csv"),
            None,
            targets,
            scores_file="s.csv",
            counts_file=None,
            score_columns_metadata=None,
            count_columns_metadata=None,
        )
    except StepError as error:
        return [detail for detail in error.details if ", line " in detail]
    return []


def said_of_each(column: str, cells: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """What the parser says of each cell's one variant by itself."""
    found = []
    for line, cell in enumerate(cells, start=2):
        name, _, variant = cell.rpartition(":")
        target = next((t for t in targets if name in (t.label, t.accession)), targets[0])
        if target.accession:
            problems = validate_accession_variants(name, [variant])
        else:
            problems = validate_sequence_variants(target, column, [variant])
        if problems:
            found.append(f"scores s.csv, line {line}, column {column}: {cell} {problems[variant]}")
    return found


@given(columns(nucleotide_variants))
@example(["n.[1A>G;1A>C]", "n.[1A>G;1_2del]", "n.[1_3del;3G>A]", "n.[1_3del;4G>A]"])
def test_of_nucleotide_variants(cells: list[str]) -> None:
    assert said("hgvs_nt", cells, [DNA]) == said_of_each("hgvs_nt", cells, [DNA])


@given(columns(variants("cn", nucleotide_changes)))
def test_of_splice_variants(cells: list[str]) -> None:
    assert said("hgvs_splice", cells, [DNA]) == said_of_each("hgvs_splice", cells, [DNA])


@given(columns(protein_variants))
@example(
    [
        "p.[Met1=;Met1Gly]",
        "p.[Gly2_Tyr3del;Met1del]",
        "p.[Met1_Gly2=;Tyr3Ter]",
        "p.[Met1Gly;Gly2_Tyr3del]",
    ]
)
def test_of_protein_variants(cells: list[str]) -> None:
    for target in (DNA, PROTEIN):
        assert said("hgvs_pro", cells, [target]) == said_of_each("hgvs_pro", cells, [target])


@given(columns(joined(st.sampled_from(["g1:", "p1:"]), nucleotide_variants)))
def test_of_nucleotide_variants_of_several_targets(cells: list[str]) -> None:
    targets = [DNA, PROTEIN]
    assert said("hgvs_nt", cells, targets) == said_of_each("hgvs_nt", cells, targets)


@given(columns(joined(st.sampled_from(["g1:", "p1:"]), protein_variants)))
def test_of_protein_variants_of_several_targets(cells: list[str]) -> None:
    targets = [DNA, PROTEIN]
    assert said("hgvs_pro", cells, targets) == said_of_each("hgvs_pro", cells, targets)


@given(columns(joined("NM_007294.4:", nucleotide_variants)))
def test_of_variants_of_an_accession(cells: list[str]) -> None:
    assert said("hgvs_nt", cells, [ACCESSION]) == said_of_each("hgvs_nt", cells, [ACCESSION])
