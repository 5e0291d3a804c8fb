"""The document that ClinGen's Allele Registry describes an allele with: its shape, checked."""

from pydantic import BaseModel, Field


class Uri(BaseModel):
    id: str = Field(alias="@id")


class ClinVarAllele(BaseModel):
    allele_id: int = Field(alias="alleleId")


class ExternalRecords(BaseModel):
    clinvar_alleles: list[ClinVarAllele] = Field(alias="ClinVarAlleles", default=[])


class GenomicAllele(BaseModel):
    hgvs: list[str] = []
    genome: str | None = Field(alias="referenceGenome", default=None)


class Hgvs(BaseModel):
    hgvs: str | None = None


class ByRefSeq(BaseModel):
    refseq: Hgvs = Field(alias="RefSeq", default=Hgvs())


class Mane(BaseModel):
    nucleotide: ByRefSeq = ByRefSeq()
    protein: ByRefSeq = ByRefSeq()


class TranscriptAllele(BaseModel):
    id: str | None = Field(alias="@id", default=None)
    hgvs: list[str] = []
    protein_effect: Hgvs = Field(alias="proteinEffect", default=Hgvs())
    mane: Mane | None = Field(alias="MANE", default=None)


class AminoAcidAllele(BaseModel):
    hgvs: list[str] = []
    transcripts: list[Uri] = Field(alias="matchingRegisteredTranscripts", default=[])


class Document(BaseModel):
    """What the registry answers about one allele, as far as it is read."""

    id: str = Field(alias="@id", pattern=r"(?:CA|PA)[0-9]+$")
    external: ExternalRecords = Field(alias="externalRecords", default=ExternalRecords())
    genomic: list[GenomicAllele] = Field(alias="genomicAlleles", default=[])
    transcripts: list[TranscriptAllele] = Field(alias="transcriptAlleles", default=[])
    amino_acid: list[AminoAcidAllele] = Field(alias="aminoAcidAlleles", default=[])
