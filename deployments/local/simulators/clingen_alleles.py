"""What the Allele Registry's simulator says of an HGVS: an allele, or why it is refused.

Everything follows from the HGVS alone, so that the same HGVS always has the same answer.
"""

import functools
import random
import re
from dataclasses import dataclass
from typing import Any

from deployments.local.simulators.clinvar_alleles import clinvar_allele_id
from deployments.local.simulators.gnomad import Locus, simulated_locus, simulated_rows

_SITE = "http://reg.genome.network"
_REJECTED = 0.03
_ZERO_PADDED = 0.01
_WITHOUT_MANE = 0.05
#: Ids from here on were merged into the id that is so much smaller.
_FIRST_MERGED = 90_000_000_000

_HGVS = re.compile(r"([A-Za-z]\w*(?:\.\d+)?)(?:\([\w-]+\))?:([cgmnpr])\.(\S+)")
_KNOWN_ACCESSION = re.compile(r"(N[CGMPRTW]_|X[MPR]_|ENS[GPT]|LRG_|CM)\d+.*")
_UNKNOWN_TO_REGISTRY = "ENST00000387314"
_MOST_RESIDUES = 7
_RESIDUE_CODES = "Ala Arg Asn Asp Cys Gln Glu Gly His Ile Leu Lys Met Phe Pro Ser Thr Trp Tyr Val"
_RESIDUES = _RESIDUE_CODES.split()
#: GRCh38: the versions of NC_000001 to NC_000024.
_CHROMOSOME_VERSIONS = "11 12 12 12 10 12 14 11 12 11 10 12 11 9 10 10 11 10 10 11 9 11 11 10"

_DESCRIPTIONS = {
    "HgvsParsingError": "HGVS string cannot be parsed.",
    "IncorrectReferenceAllele": "Given allele does not match the reference sequence.",
    "CoordinateOutsideReference": "Position is outside of the reference sequence.",
    "UnknownReferenceSequence": "Reference sequence is not known.",
    "NoConsistentAlignment": "The allele cannot be mapped to the reference genome.",
    "ProteinVariantTooLong": "Protein variants are limited to 7 amino acids.",
    "InternalServerError": "Internal error occurred. Please, report it as an error.",
    "NotFound": "The system does not contain any data about requested resource.",
    "IncorrectRequest": "The request is not correct.",
    "RequestTooLarge": "The request has too many records.",
    "AuthorizationError": "The request cannot be authorized.",
    "SystemInReadOnlyMode": "Registration is off during a temporary, on-going system maintenance.",
    "RequestTerminated": "The request was terminated before all of it was processed.",
}

Json = dict[str, Any]


def error(error_type: str, message: str, **more: Any) -> Json:
    """An error as the registry writes it, alone or as an element of a bulk answer."""
    described = {"errorType": error_type, "description": _DESCRIPTIONS[error_type]}
    return described | {"message": message} | more


def allele_uri(allele_id: str) -> str:
    return f"{_SITE}/allele/{allele_id}"


@dataclass(frozen=True)
class Expression:
    """An HGVS that the registry understands, spelled as the registry spells it."""

    hgvs: str
    accession: str
    kind: str
    change: str

    @property
    def is_protein(self) -> bool:
        return self.kind == "p"


def read(line: str) -> Expression | Json:
    """The expression of one line of a request, or the error that the registry answers with."""
    match = _HGVS.fullmatch(line)
    if match is None or match[1].startswith("BAD"):
        return error("HgvsParsingError", "Cannot parse the HGVS.", inputLine=line)
    accession, kind, change = match.groups()
    if accession.startswith(_UNKNOWN_TO_REGISTRY):
        message = f"Unknown reference: {accession}"
        return error("InternalServerError", message, inputLine=line)
    if not _KNOWN_ACCESSION.fullmatch(accession):
        return _unknown_reference(line, accession)
    change = _respelled(kind, change)
    expression = Expression(f"{accession}:{kind}.{change}", accession, kind, change)
    return _refusal(line, expression) or expression


def simulated_allele_id(expression: Expression) -> str:
    """CA… for a nucleotide change, PA… for a protein change; some CA are padded with zeros."""
    draw = random.Random(expression.hgvs)
    if expression.is_protein:
        return f"PA{draw.randint(100_000_000, 2_999_999_999)}"
    if draw.random() < _ZERO_PADDED:
        return f"CA{draw.randint(10_000, 99_999):06d}"
    return f"CA{draw.randint(100_000, 999_999_999)}"


def protein_consequence(expression: Expression) -> Expression | None:
    """The made-up protein change of a coding change of 1 to 3 bases on a RefSeq transcript."""
    match = re.fullmatch(r"(\d+)(?:_\d+)?(?:[ACGT]>[ACGT]|delins[ACGT]{1,3})", expression.change)
    if match is None or expression.kind != "c" or not expression.accession.startswith("NM_"):
        return None
    codon = (int(match[1]) + 2) // 3
    protein = f"NP_{expression.accession[3:]}"
    residue = random.Random(f"{protein} {codon}").choice(_RESIDUES)
    other = random.Random(expression.hgvs).choice(_RESIDUES)
    change = f"{residue}{codon}{'=' if other == residue else other}"
    return Expression(f"{protein}:p.{change}", protein, "p", change)


def merged_into(allele_id: str) -> str | None:
    """The id that an old id was merged into: CA90000503883 into CA503883."""
    number = int(allele_id[2:]) - _FIRST_MERGED
    return f"{allele_id[:2]}{number}" if number > 0 else None


def describe(allele_id: str, expression: Expression, transcript_ids: list[str]) -> Json:
    """A registered allele; `transcript_ids` are the CA ids behind a protein allele."""
    content = (
        _amino_acid(expression, transcript_ids)
        if expression.is_protein
        else _nucleotide(allele_id, expression)
    )
    return {
        "@context": f"{_SITE}/schema/allele.jsonld",
        "@id": allele_uri(allele_id),
        "communityStandardTitle": [expression.hgvs],
    } | content


def _amino_acid(expression: Expression, transcript_ids: list[str]) -> Json:
    allele: Json = {
        "hgvs": [expression.hgvs],
        "referenceSequence": _reference_uri(expression.accession),
        "hgvsMatchingTranscriptVariant": [],
        "matchingRegisteredTranscripts": [{"@id": allele_uri(i)} for i in transcript_ids],
    }
    return {"type": "amino-acid", "externalRecords": {}, "aminoAcidAlleles": [allele]}


def _nucleotide(allele_id: str, expression: Expression) -> Json:
    unpadded = f"CA{int(allele_id[2:])}"
    locus = simulated_locus(unpadded, expression.hgvs)
    on_genome = f"{_chromosome_accession(locus)}:g.{_genomic_change(locus)}"
    is_genomic = expression.accession.startswith("NC_")
    genomic: Json = {
        "chromosome": locus.chromosome,
        "coordinates": [
            {
                "start": locus.position - 1,
                "end": locus.position - 1 + len(locus.reference),
                "referenceAllele": locus.reference,
                "allele": locus.alternate,
            }
        ],
        "hgvs": [expression.hgvs if is_genomic else on_genome],
        "referenceGenome": "GRCh38",
        "referenceSequence": _reference_uri(_chromosome_accession(locus)),
    }
    return {
        "type": "nucleotide",
        "externalRecords": _external_records(unpadded, expression, locus),
        "genomicAlleles": [genomic],
        "transcriptAlleles": [] if is_genomic else _transcripts(expression),
    }


def _transcripts(expression: Expression) -> list[Json]:
    """The allele on its transcript and, of a RefSeq one, on an older version and on Ensembl's.

    Where the MANE transcript has a gap, an allele lies on none.
    """
    own = _transcript(expression.hgvs, expression.accession)
    protein = protein_consequence(expression)
    if not re.fullmatch(r"NM_\d+\.\d+", expression.accession) or expression.kind != "c":
        return [own]
    number, version = expression.accession[3:].split(".")
    older = f"NM_{number}.{int(version) - 1}"
    ensembl = f"ENST{random.Random(expression.accession).randint(200_000, 699_999):011d}.4"
    others = [
        _transcript(f"{ensembl}:c.{expression.change}", ensembl),
        _transcript(f"{older}:c.{expression.change}", older),
    ]
    if protein is not None:
        in_ensembl = f"{ensembl.replace('ENST', 'ENSP')}:p.{protein.change}"
        for transcript, hgvs in zip(
            [own, *others], [protein.hgvs, in_ensembl, protein.hgvs], strict=True
        ):
            transcript["proteinEffect"] = {"hgvs": hgvs, "hgvsWellDefined": hgvs}
        for of_refseq in (own, others[1]):
            of_refseq["@id"] = allele_uri(simulated_allele_id(protein))
    if _is_on_mane(expression):
        mane: Json = {
            "maneVersion": "1.3",
            "maneStatus": "MANE Select",
            "nucleotide": {"RefSeq": {"hgvs": expression.hgvs}},
        }
        if protein is not None:
            mane["protein"] = {"RefSeq": {"hgvs": protein.hgvs}}
        own["MANE"] = others[0]["MANE"] = mane
    return [others[0], others[1], own]


def _is_on_mane(expression: Expression) -> bool:
    """Whole codons are missing, so that all alleles of one protein change agree."""
    position = re.match(r"\d+", expression.change)
    codon = (int(position[0]) + 2) // 3 if position else 0
    return random.Random(f"MANE {expression.accession} {codon}").random() >= _WITHOUT_MANE


def _transcript(hgvs: str, accession: str) -> Json:
    return {"hgvs": [hgvs], "referenceSequence": _reference_uri(accession)}


def _external_records(caid: str, expression: Expression, locus: Locus) -> Json:
    draw = random.Random(f"records of {caid}")
    records: Json = {}
    allele = clinvar_allele_id(caid)
    if allele is not None:
        variation = draw.randint(1, 3_000_000)
        records["ClinVarAlleles"] = [
            {
                "@id": f"http://www.ncbi.nlm.nih.gov/clinvar/?term={allele}[alleleid]",
                "alleleId": allele,
                "preferredName": expression.hgvs,
            }
        ]
        records["ClinVarVariations"] = [
            {
                "@id": f"http://www.ncbi.nlm.nih.gov/clinvar/variation/{variation}",
                "RCV": [f"RCV{draw.randint(1, 999_999_999):09d}"],
                "variationId": variation,
            }
        ]
    if draw.random() < 0.5:
        rs = draw.randint(1_000, 2_000_000_000)
        records["dbSNP"] = [{"@id": f"http://www.ncbi.nlm.nih.gov/snp/{rs}", "rs": rs}]
    in_myvariant = f"chr{locus.chromosome}:g.{_genomic_change(locus)}"
    records["MyVariantInfo_hg38"] = [
        {
            "@id": f"http://myvariant.info/v1/variant/{in_myvariant}?assembly=hg38",
            "id": in_myvariant,
        }
    ]
    if simulated_rows(caid, expression.hgvs):
        in_gnomad = locus.identifier
        records["gnomAD_4"] = [
            {
                "@id": f"http://gnomad.broadinstitute.org/variant/{in_gnomad}?dataset=gnomad_r4",
                "id": in_gnomad,
                "variant": f"{locus.chromosome}:{locus.position} "
                f"{locus.reference} / {locus.alternate}",
            }
        ]
    return records


def _refusal(line: str, expression: Expression) -> Json | None:
    """Too long a protein change, and about three in a hundred others, are refused."""
    accession, change = expression.accession, expression.change
    inserted = re.sub(r".*?(ins|ext)", "", change) if expression.is_protein else ""
    if len(re.findall(r"[A-Z][a-z]{2}", inserted)) > _MOST_RESIDUES:
        message = f"Protein variant is longer than {_MOST_RESIDUES} amino acids."
        return error("ProteinVariantTooLong", message, inputLine=line)
    draw = random.Random(f"refusal of {expression.hgvs}")
    if draw.random() >= _REJECTED:
        return None
    position = re.search(r"\d+", change)
    start = int(position[0]) - 1 if position else 0
    region = f"[{start},{start + 1})"
    given = re.match(r"\d+([ACGT])>|([A-Z][a-z]{2})\d", change)
    if given and draw.random() < 0.6:
        stated = given[1] or given[2]
        alphabet = "ACGT" if given[1] else _RESIDUES
        found = draw.choice([symbol for symbol in alphabet if symbol != stated])
        return error(
            "IncorrectReferenceAllele",
            f"Reference allele does not match for {accession} {region},"
            f" given={stated}, found={found}.",
            inputLine=line,
            hgvs=expression.hgvs,
            sequenceName=accession,
            region=region,
            givenAllele=stated,
            actualAllele=found,
        )
    refusals = [
        error(
            "NoConsistentAlignment",
            f"No alignment of {accession} covers {region}.",
            inputLine=line,
        ),
        error(
            "CoordinateOutsideReference",
            f"Position {start + 1} is outside of {accession}.",
            inputLine=line,
            sequenceName=accession,
            position=str(start + 1),
        ),
        _unknown_reference(line, accession),
    ]
    return draw.choice(refusals)


def _unknown_reference(line: str, accession: str) -> Json:
    return error(
        "UnknownReferenceSequence",
        f"The reference sequence named {accession} is not known.",
        inputLine=line,
        sequenceName=accession,
    )


def _respelled(kind: str, change: str) -> str:
    """The registry's spelling: del5A becomes del, 5delAinsG becomes 5A>G, (Met1Val) Met1Val."""
    if kind == "p":
        return change[1:-1] if change.startswith("(") and change.endswith(")") else change
    change = re.sub(r"^(\d+)del([ACGT])ins([ACGT])$", r"\1\2>\3", change)
    return re.sub(r"(del|dup)[ACGT]+", r"\1", change)


def _chromosome_accession(locus: Locus) -> str:
    number = {"X": 23, "Y": 24}.get(locus.chromosome) or int(locus.chromosome)
    return f"NC_{number:06d}.{_CHROMOSOME_VERSIONS.split()[number - 1]}"


def _genomic_change(locus: Locus) -> str:
    if len(locus.alternate) == 1:
        return f"{locus.position}{locus.reference}>{locus.alternate}"
    return f"{locus.position}_{locus.position + 1}ins{locus.alternate[1:]}"


@functools.cache
def _reference_uri(accession: str) -> str:
    return f"{_SITE}/refseq/RS{random.Random(accession).randint(1, 999_999):06d}"
