"""What the simulated VEP and Variant Recoder say of an HGVS.

Everything follows from the HGVS alone, so that the same HGVS always has the same answer. Of a
hundred, about two do not match the reference, two more VEP cannot read, and one lies at two places.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.clients.vep_answers import severity

_MISMATCHED = 0.02
_UNREAD = 0.04
_RECODED = 0.7
_TWICE = 0.01
_LONGEST = 5_000
#: GRCh38: the versions of NC_000001 to NC_000024.
_VERSIONS = (
    *(11, 12, 12, 12, 10, 12, 14, 11, 12, 11, 10, 12),
    *(11, 9, 10, 10, 11, 10, 10, 11, 9, 11, 11, 10),
)

_HGVS = re.compile(r"(?P<accession>[A-Za-z]\w*(?:\.\d+)?)(?:\([^()]*\))?:(?P<kind>[cgmnp])\.(.+)")
_CHANGE = re.compile(
    r"(?P<first>[-*]?\d+(?:[+-]\d+)?)(?:_(?P<last>[-*]?\d+(?:[+-]\d+)?))?"
    r"(?:(?P<old>[ACGT])>(?P<new>[ACGT])|(?P<kind>delins|del|dup|ins|inv)(?P<sequence>[ACGT]*))"
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Variation:
    """A change that VEP can read, and where it lies on GRCh38."""

    notation: str
    accession: str
    kind: str
    change: re.Match[str]
    chromosome: int
    start: int
    strand: int

    @property
    def length(self) -> int:
        return _number(self.change["last"] or self.change["first"]) - _number(self.change["first"])

    @property
    def on_chromosome(self) -> str:
        """As the Variant Recoder spells it, all alleles as substitutions."""
        old = self.change["old"] or "A"
        new = self.change["new"] or "C"
        label = f"NC_{self.chromosome:06d}.{_VERSIONS[self.chromosome - 1]}"
        return f"{label}:g.{self.start}{old}>{new}"


def read(notation: str) -> Variation | str:
    """The variation, or the warning that VEP gives."""
    variation = _parse(notation)
    if variation is None:
        return f"Unable to parse HGVS notation '{notation}'"
    draw = random.Random(f"reading {notation}").random()
    old = variation.change["old"]
    if draw < _MISMATCHED and old:
        found = random.Random(notation).choice([base for base in "ACGT" if base != old])
        place = f"{variation.chromosome}:{variation.start}-{variation.start}"
        return (
            f"Unable to parse HGVS notation '{notation}': Reference allele extracted from {place}"
            f" ({found}) does not match reference allele given by HGVS notation {notation} ({old})"
        )
    if draw < _UNREAD and not variation.accession.startswith("NC_"):
        return f"Unable to parse HGVS notation '{notation}': Could not get a Transcript object"
    return variation


def entries(variation: Variation, *, refseq: bool) -> Iterator[Json]:
    """VEP's entries: as a rule one."""
    entry: Json = {
        "input": variation.notation,
        "id": variation.notation,
        "assembly_name": "GRCh38",
        "seq_region_name": _name(variation.chromosome),
        "start": variation.start,
        "end": variation.start + variation.length,
        "strand": variation.strand,
        "allele_string": f"{variation.change['old'] or '-'}/{variation.change['new'] or '-'}",
    }
    if variation.length > _LONGEST:
        yield {"input": variation.notation}
        return
    yield entry | _consequences(variation, refseq, "")
    if random.Random(f"twice {variation.notation}").random() < _TWICE:
        patch = {"seq_region_name": f"HG{variation.start % 3_000}_PATCH"}
        yield entry | patch | _consequences(variation, refseq, "on a patch")


def recode(notation: str) -> Json | None:
    """The Variant Recoder's object: it reads most of what VEP cannot, and protein changes."""
    match = _HGVS.fullmatch(notation)
    if match is None:
        return None
    draw = random.Random(f"recoding {notation}")
    variation = _parse(notation)
    if variation is None and match["kind"] != "p":
        return None
    unread = read(notation)
    if isinstance(unread, str) and ("not match" in unread or draw.random() >= _RECODED):
        return None
    if variation is not None:
        places = {variation.change["new"] or "-": variation.on_chromosome}
    else:
        place = f"{_VERSIONS[16]}:g.{draw.randint(43_044_295, 43_125_364)}"
        places = {new: f"NC_000017.{place}A>{new}" for new in draw.sample("CGT", k=2)}
    alleles: Json = {
        new: {
            "input": notation,
            "id": [f"rs{draw.randint(1_000, 2_000_000_000)}"],
            "hgvsg": [
                f"NG_{draw.randint(1, 99_999):06d}.1:g.{draw.randint(1, 99_999)}A>{new}",
                place,
            ],
            "hgvsc": [notation],
        }
        for new, place in places.items()
    }
    return alleles | ({"warnings": ["Switched to another version."]} if draw.random() < 0.1 else {})


def _parse(notation: str) -> Variation | None:
    match = _HGVS.fullmatch(notation)
    change = _CHANGE.fullmatch(match[3]) if match and match["kind"] != "p" else None
    if match is None or change is None:
        return None
    accession = match["accession"]
    on_chromosome = re.fullmatch(r"NC_0000(\d\d)\.\d+", accession)
    if on_chromosome and 1 <= int(on_chromosome[1]) <= len(_VERSIONS):
        chromosome, start, strand = int(on_chromosome[1]), _number(change["first"]), 1
    else:
        draw = random.Random(f"place of {accession}")
        chromosome, strand = draw.randint(1, len(_VERSIONS)), draw.choice([1, -1])
        start = draw.randint(1_000_000, 40_000_000) + strand * _number(change["first"])
    return Variation(notation, accession, match["kind"], change, chromosome, start, strand)


def _consequences(variation: Variation, refseq: bool, where: str) -> Json:
    draw = random.Random(f"consequences of {variation.notation} {where}")
    own = _terms(variation, draw)
    if not own:
        elsewhere = draw.choice(["intergenic", "regulatory_feature"])
        term = "intergenic_variant" if elsewhere == "intergenic" else "regulatory_region_variant"
        found = {"consequence_terms": [term], "impact": "MODIFIER"}
        return {f"{elsewhere}_consequences": [found], "most_severe_consequence": term}
    transcripts = [(_own_transcript(variation, refseq), own)]
    for number in range(draw.randint(1, 4)):
        others = own if draw.random() < 0.6 else [draw.choice(_OTHER_ISOFORMS)]
        transcripts.append((_transcript(f"{variation.accession} {number}", refseq), others))
    draw.shuffle(transcripts)
    return {
        "transcript_consequences": [
            {
                "transcript_id": transcript,
                "consequence_terms": draw.sample(terms, k=len(terms)),
                "gene_symbol": f"GENE{variation.chromosome}",
                "biotype": "protein_coding",
                "strand": variation.strand,
            }
            for transcript, terms in transcripts
        ],
        "most_severe_consequence": min(
            (term for _, terms in transcripts for term in terms), key=severity
        ),
    }


_OTHER_ISOFORMS = (
    *("intron_variant", "5_prime_UTR_variant", "upstream_gene_variant", "downstream_gene_variant"),
    *("stop_gained", "splice_donor_variant", "synonymous_variant"),
)


def _terms(variation: Variation, draw: random.Random) -> list[str]:
    """The terms of the transcript that the variation is written on, or of one that it lies in."""
    change, position = variation.change, variation.change["first"]
    if variation.kind in "gm" and draw.random() < 0.3:
        return []
    if variation.kind == "n":
        return ["non_coding_transcript_exon_variant"]
    offset = re.search(r"\d([+-])(\d+)", position)
    if offset:
        site = "donor" if offset[1] == "+" else "acceptor"
        return [f"splice_{site}_variant"] if int(offset[2]) < 3 else ["intron_variant"]
    if position[0] in "-*":
        return ["5_prime_UTR_variant" if position[0] == "-" else "3_prime_UTR_variant"]
    if change["old"] is None:
        changed = len(change["sequence"]) - (0 if change["kind"] == "ins" else variation.length + 1)
        if change["kind"] == "dup":
            changed = variation.length + 1
        if changed % 3:
            return ["frameshift_variant"]
        return ["inframe_deletion" if changed < 0 else "inframe_insertion"]
    if variation.kind == "c" and int(position) <= 3:
        return ["start_lost"]
    return draw.choices(_SUBSTITUTIONS, weights=(68, 18, 6, 5, 3))[0]


_SUBSTITUTIONS: Sequence[list[str]] = (
    ["missense_variant"],
    ["synonymous_variant"],
    ["stop_gained"],
    ["splice_region_variant", "missense_variant"],
    ["splice_region_variant", "synonymous_variant"],
)


def _own_transcript(variation: Variation, refseq: bool) -> str:
    """As the asked set names it: RefSeq's with their versions, Ensembl's without."""
    if refseq and re.match(r"[NX][MR]_", variation.accession):
        return variation.accession
    if not refseq and variation.accession.startswith("ENST"):
        return variation.accession.partition(".")[0]
    return _transcript(variation.accession, refseq)


def _transcript(seed: str, refseq: bool) -> str:
    number = random.Random(f"transcript {seed}").randint(1, 400_000)
    return f"NM_{number:06d}.{number % 5 + 1}" if refseq else f"ENST{number:011d}"


def _number(position: str) -> int:
    found = re.search(r"\d+", position)
    assert found is not None
    return int(found[0])


def _name(chromosome: int) -> str:
    return {23: "X", 24: "Y"}.get(chromosome, str(chromosome))
