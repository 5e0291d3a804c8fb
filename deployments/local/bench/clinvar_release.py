"""A made-up release of ClinVar, in the archive's newest format and as large as its are.

Most of its columns say something, as ClinVar's do: a row has half a kilobyte, a seventh of it once
packed.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from deployments.local.simulators.clinvar_releases import columns

#: The newest format.
_YEAR, _MONTH = 2026, 1
_ROWS_AT_ONCE = 100_000
_FIRST_ALLELE_ID, _FIRST_VARIATION_ID = 15_041, 2
_GENES, _CONDITIONS = 20_000, 4_000
_SIGNIFICANCES = (
    *["Uncertain significance"] * 5,
    *["Likely benign"] * 2,
    "Benign",
    "Pathogenic",
    "Conflicting classifications of pathogenicity",
)
_REVIEWS = (
    *["criteria provided, single submitter"] * 7,
    "criteria provided, multiple submitters, no conflicts",
    "no assertion criteria provided",
    "reviewed by expert panel",
)

_IS_GRCH38 = pl.col("row") % 2 == 1


def write_release(file: Path, rows: int) -> None:
    """Each allele has two rows, one of each assembly, as most of ClinVar's have."""
    # The level of gzip's own command.
    with gzip.open(file, "wb", compresslevel=6) as packed:
        for first in range(0, rows, _ROWS_AT_ONCE):
            table = _table(range(first, min(first + _ROWS_AT_ONCE, rows)))
            packed.write(
                table.write_csv(
                    separator="\t", quote_style="never", include_header=first == 0
                ).encode()
            )


def _table(rows: range) -> pl.DataFrame:
    values = _values()
    return (
        pl.DataFrame({"row": rows})
        .with_columns(allele=pl.col("row") // 2)
        .select(values.get(name, pl.lit("-")).alias(name) for name in columns(_YEAR, _MONTH))
    )


def _values() -> dict[str, pl.Expr]:
    """Of the columns that say anything, what they say."""
    gene = pl.format("GENE{}", _drawn("gene", _GENES))
    position = _drawn("position", 150_000_000) + pl.when(_IS_GRCH38).then(12_345).otherwise(0)
    codon = 1 + _drawn("codon", 3_000)
    chromosome = 10 + _drawn("chromosome", 13)
    reference, alternate = _one_of("reference", "ACGT"), _one_of("alternate", "ACGT")
    return {
        "#AlleleID": pl.col("allele") + _FIRST_ALLELE_ID,
        "Type": _one_of("type", ["single nucleotide variant"] * 9 + ["Deletion"]),
        "Name": pl.format(
            "NM_{}.4({}):c.{}{}>{} (p.Arg{}Leu)",
            _drawn("gene", _GENES) + 100_000,
            gene,
            3 * codon,
            reference,
            alternate,
            codon,
        ),
        "GeneID": _drawn("gene", _GENES),
        "GeneSymbol": gene,
        "HGNC_ID": pl.format("HGNC:{}", _drawn("gene", _GENES)),
        "ClinicalSignificance": _one_of("significance", _SIGNIFICANCES),
        "ClinSigSimple": _drawn("significance", 2),
        "LastEvaluated": pl.format(
            "{} {}, {}",
            _one_of("month", ["Jan", "Mar", "Jun", "Sep", "Dec"]),
            1 + _drawn("day", 28),
            2015 + _drawn("year", 11),
        ),
        "RS# (dbSNP)": _drawn("dbSNP", 2_000_000_000),
        "RCVaccession": _numbers("RCV{}", 9_000_000),
        "PhenotypeIDS": _conditions(
            "MONDO:MONDO:{},MedGen:C{},OMIM:{}",
            "MeSH:D030342,MedGen:C0950123",
            "MedGen:C3661900",
        ),
        "PhenotypeList": _conditions(
            "Hereditary made-up syndrome, type {}", "Inborn genetic diseases", "not provided"
        ),
        "Origin": pl.lit("germline"),
        "OriginSimple": pl.lit("germline"),
        "Assembly": pl.when(_IS_GRCH38).then(pl.lit("GRCh38")).otherwise(pl.lit("GRCh37")),
        "ChromosomeAccession": pl.format(
            "NC_0000{}.{}", chromosome, pl.when(_IS_GRCH38).then(11).otherwise(10)
        ),
        "Chromosome": chromosome,
        "Start": position,
        "Stop": position,
        "ReferenceAllele": pl.lit("na"),
        "AlternateAllele": pl.lit("na"),
        "Cytogenetic": pl.format("{}q{}.1", chromosome, _drawn("band", 30)),
        "ReviewStatus": _one_of("review", _REVIEWS),
        "NumberSubmitters": 1 + _drawn("submitters", 4),
        "TestedInGTR": pl.lit("N"),
        "OtherIDs": pl.format("ClinGen:CA{}", _drawn("ClinGen", 900_000_000)),
        "SubmitterCategories": pl.lit("2"),
        "VariationID": pl.col("allele") + _FIRST_VARIATION_ID,
        "PositionVCF": position,
        "ReferenceAlleleVCF": reference,
        "AlternateAlleleVCF": alternate,
        "SCVsForAggregateGermlineClassification": _numbers("SCV{}", 9_000_000),
    }


def _drawn(what: str, below: int) -> pl.Expr:
    """A number of the allele's own, the same in both of its rows."""
    return pl.concat_str(pl.lit(what), pl.col("allele")).hash() % below


def _one_of(what: str, options: Sequence[str]) -> pl.Expr:
    return pl.lit(pl.Series(list(options))).gather(_drawn(what, len(options)))


def _numbers(pattern: str, below: int) -> pl.Expr:
    """Two of them."""
    both = [pl.format(pattern, _drawn(f"{pattern}{n}", below) + 1_000_000) for n in range(2)]
    return pl.concat_str(both, separator="|")


def _conditions(pattern: str, second: str, last: str) -> pl.Expr:
    """One to three of them, the first with the same number wherever the pattern asks for it."""
    number = _drawn("condition", _CONDITIONS) + 1_000_000
    first = pl.format(pattern, *[number] * pattern.count("{}"))
    how_many = _drawn("conditions", 3)
    return (
        pl.when(how_many == 0)
        .then(first)
        .when(how_many == 1)
        .then(pl.format("{}|{}", first, pl.lit(last)))
        .otherwise(pl.format("{}|{}|{}", first, pl.lit(second), pl.lit(last)))
    )
