"""What the simulated mapper answers for each variant: plausible, deterministic VRS 2.

Well-known genes get their real accessions, every other target accessions derived from its
sequence. Protein variants go to an NP_, coding nucleotide variants (c.) to an NM_ (layer "c"),
other nucleotide variants (n., g., m., o.) to an NC_. Variants of accession-based targets stay on
their accession.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fqfa.constants.iupac.protein import AA_CODES
from fqfa.util.translate import translate_dna
from mavehgvs import MaveHgvsParseError, Variant

OUTSIDE = (
    "Cannot process variant {} because it is not fully contained within the aligned portion of "
    "the query sequence"
)
INTRONIC = "Variant is intronic and cannot be processed: {}"
NO_CHANGE = "Variant {} names no position and has no protein consequence to map"

_ONE_LETTER = {three: one for one, three in AA_CODES.items()}


@dataclass(frozen=True)
class Target:
    """A target as MaveDB holds it: with its own sequence, or with an accession."""

    name: str
    sequence_type: str | None = None
    sequence: str | None = None
    label: str | None = None
    accession: str | None = None


@dataclass(frozen=True)
class TargetVariant:
    """A variant as MaveDB holds it. Where both are given, the nucleotide one is mapped."""

    urn: str
    hgvs_nt: str | None
    hgvs_pro: str | None
    score: float | None

    @property
    def hgvs(self) -> str:
        return self.hgvs_nt or self.hgvs_pro or ""


@dataclass(frozen=True)
class Gene:
    symbol: str
    protein: str
    transcript: str
    #: Where the usual assayed domain starts; whole proteins (they start with Met) start at 0.
    domain_offset: int = 0


GENES = {
    gene.symbol: gene
    for gene in (
        Gene("BRCA1", "NP_009225.1", "NM_007294.4"),
        Gene("MAPK1", "NP_002736.3", "NM_002745.5"),
        Gene("PCSK9", "NP_777596.2", "NM_174936.4"),
        Gene("PTEN", "NP_000305.3", "NM_000314.8"),
        Gene("RAF1", "NP_002871.1", "NM_002880.4", 51),
        Gene("RHO", "NP_000530.1", "NM_000539.3"),
        Gene("SCN5A", "NP_000326.2", "NM_000335.5", 1619),
        Gene("SRC", "NP_938033.1", "NM_198291.3", 269),
        Gene("SUMO1", "NP_003343.1", "NM_003352.8"),
        Gene("TP53", "NP_000537.3", "NM_000546.6"),
        Gene("UBE2I", "NP_003336.1", "NM_003345.5"),
        Gene("YAP1", "NP_001123617.1", "NM_001130145.3", 169),
    )
}

#: GRCh38: the version of NC_000001 to NC_000022.
_CHROMOSOME_VERSIONS = "11 12 12 12 10 12 14 11 12 11 10 12 11 9 10 10 11 10 10 11 9 11"


class Refusal(Exception):  # noqa: N818 - a domain answer, not an error
    """The mapper's words on a variant that it does not map."""


def sha512t24u(content: bytes) -> str:
    """GA4GH's truncated digest."""
    return base64.urlsafe_b64encode(hashlib.sha512(content).digest()[:24]).decode()


def identify(content: dict[str, Any]) -> str:
    """The digest of a VRS object whose nested objects are already their digests."""
    return sha512t24u(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


@dataclass(frozen=True)
class _Reference:
    """One level of a target and of the human sequence that it lies on."""

    layer: str
    prefix: str
    sequence_type: str
    label: str
    own_sequence: str | None
    own_id: str
    #: From a position in the target's HGVS to one in the human HGVS, and to the human interval.
    hgvs_shift: int
    location_shift: int

    @property
    def human_id(self) -> str:
        return f"SQ.{sha512t24u(self.label.encode())}"


def map_variants(
    variants: Iterable[TargetVariant], targets: Sequence[Target]
) -> Iterator[dict[str, Any]]:
    """One record of `mapped_scores` for each variant, in the envelope's generation B."""
    references: dict[tuple[Target, str], _Reference] = {}
    for variant in variants:
        record: dict[str, Any] = {"mavedb_id": variant.urn, "relation": "SO:is_homologous_to"}
        if variant.score is not None:
            record["score"] = variant.score
        try:
            target, hgvs = _split(variant.hgvs, targets)
            level = (target, hgvs[:1])
            if level not in references:
                references[level] = _reference(target, hgvs[:1])
            record |= _map(hgvs, references[level])
        except Refusal as refusal:
            record["error_message"] = str(refusal)
        yield record


def reference_sequences(
    variants: Iterable[TargetVariant], targets: Sequence[Target]
) -> dict[str, Any]:
    """The envelope's `reference_sequences`: each target with the levels that its variants use."""
    answer: dict[str, Any] = {}
    for target, prefix in sorted(_levels(variants, targets), key=lambda level: level[0].name):
        reference = _reference(target, prefix)
        entry = answer.setdefault(target.name, {"layers": {}})
        if symbol := _symbol(target):
            method = "tx_selection" if reference.layer != "g" else "target_metadata"
            entry["gene_info"] = {"hgnc_symbol": symbol, "selection_method": method}
        entry["layers"][reference.layer] = {
            "computed_reference_sequence": {
                "sequence_type": reference.sequence_type,
                "sequence_id": f"ga4gh:{reference.own_id}",
                "sequence": reference.own_sequence or "",
            },
            "mapped_reference_sequence": {
                "sequence_type": reference.sequence_type,
                "sequence_id": f"ga4gh:{reference.human_id}",
                "sequence_accessions": [reference.label],
            },
        }
    return answer


def _levels(
    variants: Iterable[TargetVariant], targets: Sequence[Target]
) -> set[tuple[Target, str]]:
    levels = set()
    for variant in variants:
        try:
            target, hgvs = _split(variant.hgvs, targets)
        except Refusal:
            continue
        if hgvs[:1] in "cgmnop" and hgvs[1:2] == ".":
            levels.add((target, hgvs[:1]))
    return levels


def _split(hgvs: str, targets: Sequence[Target]) -> tuple[Target, str]:
    """(target, variant without the target's label or accession)."""
    name, colon, change = hgvs.partition(":")
    if not colon:
        return targets[0], hgvs
    for target in targets:
        if name in (target.label, target.accession, target.name):
            return target, change
    raise Refusal(f"No target of this score set is called {name!r}: {hgvs}")


def _reference(target: Target, prefix: str) -> _Reference:
    layer = prefix if prefix in "pc" else "g"
    sequence_type = "protein" if layer == "p" else "dna"
    if target.accession:
        own_id = f"SQ.{sha512t24u(target.accession.encode())}"
        return _Reference(layer, prefix, sequence_type, target.accession, None, own_id, 0, 0)
    sequence = (target.sequence or "").upper()
    residues = sequence if target.sequence_type == "protein" else translate_dna(sequence)[0]
    own_sequence = residues if layer == "p" else sequence
    own_id = f"SQ.{sha512t24u(own_sequence.encode())}"
    number = int.from_bytes(hashlib.sha512(sequence.encode()).digest()[:8], "big")
    gene = GENES.get(_symbol(target) or "")
    domain_offset = gene.domain_offset if gene else number % 400
    offset = 0 if residues.startswith("M") else domain_offset
    if layer == "p":
        label = gene.protein if gene else f"NP_{number % 10**6:06d}.1"
        return _Reference("p", "p", sequence_type, label, own_sequence, own_id, offset, offset)
    if layer == "c":
        label = gene.transcript if gene else f"NM_{number % 10**6:06d}.1"
        untranslated = 50 + number % 200
        shift = 3 * offset
        return _Reference(
            "c", "c", sequence_type, label, own_sequence, own_id, shift, untranslated + shift
        )
    versions = _CHROMOSOME_VERSIONS.split()
    chromosome = number % len(versions)
    label = f"NC_{chromosome + 1:06d}.{versions[chromosome]}"
    place = 1_000_000 + number % 40_000_000
    return _Reference("g", "g", sequence_type, label, own_sequence, own_id, place, place)


def _symbol(target: Target) -> str | None:
    """The HGNC symbol that the target's name speaks of, if it does."""
    words: list[str] = re.findall(r"[A-Za-z0-9]+", target.name)
    for word in words:
        if word.upper() in GENES:
            return word.upper()
    if words and re.fullmatch(r"[A-Z][A-Z0-9]{1,9}", words[0]):
        return words[0]
    return None


def _map(hgvs: str, reference: _Reference) -> dict[str, Any]:
    if int(hashlib.sha512(hgvs.encode()).hexdigest()[:8], 16) % 100 == 0:
        raise Refusal(OUTSIDE.format(hgvs))
    try:
        parsed = Variant(hgvs)
    except MaveHgvsParseError as error:
        raise Refusal(f"Unable to parse {hgvs}: {error}") from None
    pre_mapped, post_mapped = [], []
    for kind, positions, sequence in parsed.variant_tuples():
        if positions is None:
            raise Refusal(NO_CHANGE.format(hgvs))
        first, last = positions if isinstance(positions, tuple) else (positions, positions)
        change = _Change(hgvs, kind, first, last, sequence, reference)
        pre_mapped.append(change.allele(reference.own_id))
        post_mapped.append(change.human_allele())
    return {
        "vrs_version": "2",
        "pre_mapped": _phased(pre_mapped),
        "post_mapped": _phased(post_mapped),
    }


def _phased(alleles: list[dict[str, Any]]) -> dict[str, Any]:
    """One change is an Allele; several are a CisPhasedBlock of them."""
    if len(alleles) == 1:
        return alleles[0]
    members = sorted(allele["digest"] for allele in alleles)
    digest = identify({"type": "CisPhasedBlock", "members": members})
    return {
        "id": f"ga4gh:CPB.{digest}",
        "type": "CisPhasedBlock",
        "digest": digest,
        "members": alleles,
    }


class _Change:
    """One change of a variant: checked against the target, then written as VRS and as HGVS."""

    def __init__(
        self, hgvs: str, kind: str, first: Any, last: Any, sequence: Any, reference: _Reference
    ) -> None:
        self.kind, self.first, self.last = kind, first, last
        self.sequence, self.reference = sequence, reference
        if first.is_intronic() or last.is_intronic():
            raise Refusal(INTRONIC.format(hgvs))
        if kind not in {"sub", "equal", "del", "delins", "ins", "dup"}:
            raise Refusal(f"Variant type of {hgvs} is not supported")
        own = reference.own_sequence
        utr = first.is_utr() or last.is_utr()
        if utr or first.position < 1 or (own is not None and last.position > len(own)):
            raise Refusal(OUTSIDE.format(hgvs))
        self.old = own[first.position - 1 : last.position] if own is not None else self._stated()
        for stated, place in ((self._stated()[:1], 0), (self._stated()[1:], -1)):
            if stated and own is not None and self.old[place] != stated:
                raise Refusal(
                    f"Reference mismatch: {hgvs} expects {stated}, and the target has "
                    f"{self.old[place]}"
                )

    def _stated(self) -> str:
        """The residues or bases that the HGVS claims to be there: the first, or first and last."""
        if self.first.is_protein():
            ends = [self.first] if self.first is self.last else [self.first, self.last]
            return "".join(_ONE_LETTER[end.amino_acid] for end in ends)
        return str(self.sequence[0]) if self.kind == "sub" else ""

    def _new(self) -> str:
        """What the interval holds after the change, in one-letter codes."""
        if self.kind == "equal":
            return self.old
        if self.kind == "del":
            return ""
        if self.kind == "dup":
            return self.old * 2
        new = str(self.sequence[1] if self.kind == "sub" else self.sequence)
        if self.first.is_protein():
            return "".join(_ONE_LETTER[three] for three in re.findall("...", new))
        return new

    def allele(self, sequence_id: str, shift: int = 0) -> dict[str, Any]:
        start = self.first.position - (0 if self.kind == "ins" else 1)
        end = self.first.position if self.kind == "ins" else self.last.position
        location = {
            "type": "SequenceLocation",
            "start": start + shift,
            "end": end + shift,
            "sequenceReference": {"type": "SequenceReference", "refgetAccession": sequence_id},
        }
        location_digest = identify(location)
        state: dict[str, Any] = {"type": "LiteralSequenceExpression", "sequence": self._new()}
        if self.kind == "dup":
            length = end - start
            state = {
                "type": "ReferenceLengthExpression",
                "length": 2 * length,
                "repeatSubunitLength": length,
            }
        digest = identify({"type": "Allele", "location": location_digest, "state": state})
        return {
            "id": f"ga4gh:VA.{digest}",
            "type": "Allele",
            "digest": digest,
            "location": {
                "id": f"ga4gh:SL.{location_digest}",
                "digest": location_digest,
                **location,
            },
            "state": state,
            "extensions": [
                {
                    "name": "vrs_ref_allele_seq",
                    "type": "Extension",
                    "value": "" if self.kind == "ins" else self.old,
                }
            ],
        }

    def human_allele(self) -> dict[str, Any]:
        reference = self.reference
        allele = self.allele(reference.human_id, reference.location_shift)
        allele["location"]["sequenceReference"] |= {"label": reference.label}
        value = f"{reference.label}:{reference.prefix}.{self._human_hgvs()}"
        allele["expressions"] = [{"syntax": f"hgvs.{reference.prefix}", "value": value}]
        return allele

    def _human_hgvs(self) -> str:
        shift = self.reference.hgvs_shift
        place = f"{self.first.amino_acid or ''}{self.first.position + shift}"
        if self.first is not self.last:
            place += f"_{self.last.amino_acid or ''}{self.last.position + shift}"
        match self.kind:
            case "sub" if self.first.is_protein():
                return f"{place}{self.sequence[1]}"
            case "sub":
                return f"{place}{self.sequence[0]}>{self.sequence[1]}"
            case "equal":
                return f"{place}="
            case "del" | "dup":
                return f"{place}{self.kind}"
            case _:
                return f"{place}{self.kind}{self.sequence}"
