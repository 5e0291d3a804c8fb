"""What answers of VEP and the Variant Recoder say of each notation: data in, outcomes out."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.http import excerpt

#: Ensembl's order, worst first. A term that it does not hold ranks last.
SEVERITY = """
transcript_ablation splice_acceptor_variant splice_donor_variant stop_gained
frameshift_variant stop_lost start_lost transcript_amplification feature_elongation
feature_truncation inframe_insertion inframe_deletion missense_variant
protein_altering_variant splice_donor_5th_base_variant splice_region_variant
splice_donor_region_variant splice_polypyrimidine_tract_variant
incomplete_terminal_codon_variant start_retained_variant stop_retained_variant
synonymous_variant coding_sequence_variant mature_miRNA_variant 5_prime_UTR_variant
3_prime_UTR_variant non_coding_transcript_exon_variant intron_variant NMD_transcript_variant
non_coding_transcript_variant coding_transcript_variant upstream_gene_variant
downstream_gene_variant TFBS_ablation TFBS_amplification TF_binding_site_variant
regulatory_region_ablation regulatory_region_amplification regulatory_region_variant
intergenic_variant sequence_variant
"""
_RANK = {term: rank for rank, term in enumerate(SEVERITY.split())}

_TRANSCRIPT = re.compile(r"((?:[NX][MR]_|ENST)\d+)(?:\.\d+)?(?:\([^()]*\))?:")
_VERSION = re.compile(r"\.\d+$")
_MISMATCH = re.compile(r"does not match reference allele", re.IGNORECASE)


class Source(StrEnum):
    """Where a consequence is from; MaveDB's values of VepConsequenceSource."""

    TRANSCRIPT = "transcript"
    MOST_SEVERE = "most_severe"
    REFERENCE_IDENTICAL = "reference_identical"


class Query(NamedTuple):
    """A notation and the transcript, without its version, whose consequence is wanted."""

    notation: str
    transcript: str | None

    @property
    def on_refseq(self) -> bool:
        """Whether VEP has to look among RefSeq's transcripts, and not among Ensembl's own."""
        return self.transcript is not None and not self.transcript.startswith("ENST")


@dataclass(frozen=True)
class Consequence:
    """A term of the Sequence Ontology.

    `transcript_id` is set when the source is that transcript; `recoded_as` holds the genomic
    notations that were asked instead of one that VEP cannot read.
    """

    term: str
    source: Source
    transcript_id: str | None = None
    recoded_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Ensembl cannot use the notation. `category` is invalid_hgvs or reference_mismatch.

    `was_read` is set where it could be parsed, and was rejected after that.
    """

    category: FailureCategory
    message: str
    was_read: bool = False


@dataclass(frozen=True)
class Malformed:
    """Ensembl's answer about the notation cannot be understood."""

    message: str


@dataclass(frozen=True)
class NotAnswered:
    """The request failed, however often it was repeated. Says nothing about the notation."""

    error: ServiceError


@dataclass(frozen=True)
class Absent:
    """Ensembl was asked, and has no consequence. `message` says how that showed."""

    message: str


Outcome = Consequence | Absent | Refused | Malformed | NotAnswered

SKIPPED = Absent("VEP skipped it.")
LEFT_OUT = Absent(
    "Neither VEP nor the Variant Recoder can read its HGVS, or it does not match the reference."
)
LEFT_OUT_RECODED = Absent("VEP can read it neither as it is nor as it was recoded.")


def query_of(notation: str) -> Query:
    """The notation with the transcript that it is written on, if it is written on one."""
    match = _TRANSCRIPT.match(notation)
    return Query(notation, match[1] if match else None)


def severity(term: str) -> int:
    """0 is the worst."""
    return _RANK.get(term, len(_RANK))


def refusal(message: str) -> Refused:
    """What a warning about a single notation means."""
    mismatch = _MISMATCH.search(message)
    return Refused(
        FailureCategory.REFERENCE_MISMATCH if mismatch else FailureCategory.INVALID_HGVS,
        excerpt(message),
    )


def read_consequences(
    entries: Iterable[Any], asked: Mapping[str, Collection[str | None]]
) -> dict[str, dict[str | None, Outcome]]:
    """The outcomes of one request: for each notation one for each transcript that is wanted of it.

    A notation without an entry is left out: VEP could not read it. Unless there are entries that
    belong to no notation: then nobody knows what was left out.
    """
    found: dict[str, dict[str | None, list[Outcome]]] = {}
    stray: str | None = None
    for entry in entries:
        notation = entry.get("input") if isinstance(entry, dict) else None
        if not isinstance(notation, str) or notation not in asked:
            stray = stray or excerpt(str(entry))
            continue
        parts = found.setdefault(notation, {transcript: [] for transcript in asked[notation]})
        for transcript, outcomes in parts.items():
            outcomes.append(_consequence(entry, transcript))
    answers = {
        notation: {transcript: _worst(outcomes) for transcript, outcomes in parts.items()}
        for notation, parts in found.items()
    }
    if stray is not None:
        unknown = Malformed(f"The answer holds an entry of no notation that was asked: {stray}")
        for notation in asked.keys() - answers.keys():
            answers[notation] = dict.fromkeys(asked[notation], unknown)
    return answers


def read_recoded(
    objects: Iterable[Any], asked: Collection[str]
) -> dict[str, tuple[str, ...] | Malformed]:
    """For each notation that the Variant Recoder can read its places on chromosomes (NC_…).

    One of which some place cannot be read is Malformed. So are, where there are alleles that belong
    to no notation, those that are left out.
    """
    places: dict[str, dict[str, None]] = {}
    malformed: dict[str, Malformed] = {}
    stray: str | None = None
    for content in objects:
        if not isinstance(content, dict):
            stray = stray or excerpt(str(content))
        for allele in _recoded_alleles(content):
            notation, genomic = allele.get("input"), allele.get("hgvsg", [])
            if not isinstance(notation, str) or notation not in asked:
                stray = stray or excerpt(str(allele))
            elif isinstance(genomic, list) and all(isinstance(g, str) for g in genomic):
                on_chromosomes = [g for g in genomic if g.startswith("NC_")]
                places.setdefault(notation, {}).update(dict.fromkeys(on_chromosomes))
            else:
                malformed[notation] = Malformed(f"It was recoded as {excerpt(str(genomic))}")
    found = {notation: tuple(genomic) for notation, genomic in places.items() if genomic}
    if stray is not None:
        unknown = Malformed(f"The Variant Recoder gave an allele of no notation asked: {stray}")
        malformed |= dict.fromkeys(set(asked) - found.keys() - malformed.keys(), unknown)
    return found | malformed


def combine(parts: Sequence[Outcome], recoded_as: tuple[str, ...]) -> Outcome:
    """The outcome of a notation that was asked as several others: any failure is its failure."""
    for part in parts:
        if isinstance(part, Refused | Malformed | NotAnswered):
            return part
    worst = _worst(parts)
    if not isinstance(worst, Consequence):
        return worst
    return replace(worst, recoded_as=recoded_as)


def _consequence(entry: Mapping[str, Any], transcript: str | None) -> Outcome:
    """What one entry says: of the wanted transcript, else of all that the variant touches."""
    if entry.get("error"):
        return replace(refusal(str(entry["error"])), was_read=True)
    on_transcripts = entry.get("transcript_consequences", [])
    if transcript is not None:
        try:
            terms = [
                (term, str(found["transcript_id"]))
                for found in on_transcripts
                if _VERSION.sub("", found["transcript_id"]) == transcript
                for term in _strings(found["consequence_terms"])
            ]
        except (KeyError, TypeError):
            return Malformed(f"Its transcript_consequences: {excerpt(str(on_transcripts))}")
        if terms:
            term, transcript_id = min(terms, key=lambda found: (severity(found[0]), found))
            return Consequence(term, Source.TRANSCRIPT, transcript_id)
    most_severe = entry.get("most_severe_consequence")
    if isinstance(most_severe, str) and most_severe:
        return Consequence(most_severe, Source.MOST_SEVERE)
    if most_severe is None and not any(key.endswith("_consequences") for key in entry):
        return SKIPPED
    return Malformed(f"Its most_severe_consequence is {most_severe!r}.")


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return value


def _worst(parts: Sequence[Outcome]) -> Outcome:
    """Of several entries of one notation: what cannot be read may have been the worst."""
    for part in parts:
        if isinstance(part, Malformed):
            return part
    consequences = [part for part in parts if isinstance(part, Consequence)]
    if consequences:
        return min(consequences, key=lambda part: (severity(part.term), part.term, part.source))
    return next((part for part in parts if isinstance(part, Refused)), parts[0])


def _recoded_alleles(content: Any) -> Iterator[Mapping[str, Any]]:
    """The alleles of one object: its other keys, `warnings` and `input`, hold no objects."""
    for value in content.values() if isinstance(content, dict) else ():
        for allele in value if isinstance(value, list) else [value]:
            if isinstance(allele, dict):
                yield allele
