"""Made-up releases of ClinVar, in the formats of their times.

Everything follows from the rule alone: an allele's number says when it came, what each year says of
it, and whether and when it was withdrawn.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.local.simulators.clinvar_alleles import ALLELE_IDS

_COLUMNS_2015 = (
    "#AlleleID Type Name GeneID GeneSymbol ClinicalSignificance RS#_(dbSNP) nsv_(dbVar)"
    " RCVaccession TestedInGTR PhenotypeIDs Origin Assembly Chromosome Start Stop Cytogenetic"
    " ReviewStatus HGVS(c.) HGVS(p.) NumberSubmitters LastEvaluated Guidelines OtherIDs VariantID"
    " ReferenceAllele AlternateAllele SubmitterCategories"
)
_COLUMNS_2017 = (
    "#AlleleID Type Name GeneID GeneSymbol HGNC_ID ClinicalSignificance ClinSigSimple"
    " LastEvaluated RS#_(dbSNP) nsv/esv_(dbVar) RCVaccession PhenotypeIDS PhenotypeList Origin"
    " OriginSimple Assembly ChromosomeAccession Chromosome Start Stop ReferenceAllele"
    " AlternateAllele Cytogenetic ReviewStatus NumberSubmitters Guidelines TestedInGTR OtherIDs"
    " SubmitterCategories VariationID"
)
_COLUMNS_2020 = f"{_COLUMNS_2017} PositionVCF ReferenceAlleleVCF AlternateAlleleVCF"
_COLUMNS_2024 = (
    f"{_COLUMNS_2020} SomaticClinicalImpact SomaticClinicalImpactLastEvaluated"
    " ReviewStatusClinicalImpact Oncogenicity OncogenicityLastEvaluated ReviewStatusOncogenicity"
)
_COLUMNS_2025 = (
    f"{_COLUMNS_2024} SCVsForAggregateGermlineClassification"
    " SCVsForAggregateSomaticClinicalImpact SCVsForAggregateOncogenicityClassification"
)
#: From when on a release has these columns. NCBI adds some at the right end, now and then.
_FORMATS = (
    ((2015, 2), _COLUMNS_2015),
    ((2017, 3), _COLUMNS_2017),
    ((2020, 10), _COLUMNS_2020),
    ((2024, 2), _COLUMNS_2024),
    ((2025, 1), _COLUMNS_2025),
)
_GENES = ("BRCA1", "BRCA1;NBR1", "TP53", "PTEN", "MSH2", "-")
_SIGNIFICANCES = (
    "Pathogenic",
    "Likely pathogenic",
    "Uncertain significance",
    "Likely benign",
    "Benign",
    "not provided",
)
#: Before and since the wording changed, with the columns of 2017; of one and of several submitters.
_REVIEWS = (
    ("classified by single submitter", "classified by multiple submitters"),
    (
        "criteria provided, single submitter",
        "criteria provided, multiple submitters, no conflicts",
    ),
)
_ASSEMBLIES = ("GRCh37", "GRCh38")


@dataclass(frozen=True)
class Assertion:
    """What a release says of an allele."""

    allele_id: int
    variation_id: int
    gene_symbol: str
    clinical_significance: str
    review_status: str
    assemblies: tuple[str, ...]


def assertions(year: int, month: int) -> Iterator[Assertion]:
    """What the release says, in the order of its alleles: ever more of them, some for a while."""
    for allele_id in ALLELE_IDS:
        draw = random.Random(allele_id)
        came, left = (2014, 1) if draw.random() < 0.3 else (draw.randint(2015, 2027), 6), None
        if draw.random() < 0.05:
            left = (came[0] + draw.randint(1, 6), 6)
        if came > (year, month) or (left is not None and left <= (year, month)):
            continue
        # Both assemblies, or one, or (the empty text) none.
        some = draw.choices([_ASSEMBLIES, ("GRCh37",), ("GRCh38",), ("",)], [90, 5, 4, 1])[0]
        submitters = min(2, 1 + (year - came[0]) // 3)
        yield Assertion(
            allele_id,
            variation_id=allele_id - 15_039,
            gene_symbol=draw.choice(_GENES),
            clinical_significance=_significance(draw, year, month),
            review_status=_REVIEWS[(year, month) >= (2017, 3)][submitters - 1],
            assemblies=some,
        )


def _significance(draw: random.Random, year: int, month: int) -> str:
    first, conflicted_since = draw.choice(_SIGNIFICANCES), draw.randint(2016, 2060)
    if year < conflicted_since:
        return first
    named = "classifications" if (year, month) >= (2024, 2) else "interpretations"
    return f"Conflicting {named} of pathogenicity"


def release_text(year: int, month: int) -> str:
    """The release's variant_summary, unpacked."""
    names = columns(year, month)
    lines = ["\t".join(names)]
    for said in assertions(year, month):
        for assembly in said.assemblies:
            lines.append(_line(names, said, assembly))
    return "\n".join(lines) + "\n"


def columns(year: int, month: int) -> list[str]:
    """The names in the release's header."""
    written = next(names for since, names in reversed(_FORMATS) if since <= (year, month))
    return [name.replace("_(", " (") for name in written.split()]


def _line(names: list[str], said: Assertion, assembly: str) -> str:
    # "-" is how ClinVar says that there is nothing to say.
    position = str(43_000_000 + said.allele_id)
    values = {
        "#AlleleID": str(said.allele_id),
        "Type": "single nucleotide variant",
        "Name": f'NM_007294.4(BRCA1):c.{said.variation_id}A>G "made up"',
        "GeneSymbol": said.gene_symbol,
        "ClinicalSignificance": said.clinical_significance,
        "Assembly": assembly,
        "Chromosome": "17",
        "Start": position,
        "Stop": position,
        "ReviewStatus": said.review_status,
        "VariantID": str(said.variation_id),
        "VariationID": str(said.variation_id),
        "ReferenceAllele": "na",
        "AlternateAllele": "na",
    }
    return "\t".join(values.get(name, "-") for name in names)
