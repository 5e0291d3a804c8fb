"""MaveDB's domain tables, as far as the steps read or write them or their foreign keys need them.

They are MaveDB's: our migrations make them only for a database of our own. Columns without a
database default have MaveDB's own default here, in Python: a raw INSERT must give them.
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, String, false, text, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base, Dated, one_of, temporary_urn, today

PROCESSING_STATES = ("incomplete", "processing", "failed", "success")
MAPPING_STATES = (
    "incomplete",
    "processing",
    "failed",
    "complete",
    "pending_variant_processing",
    "not_attempted",
    "queued",
)
TARGET_CATEGORIES = ("protein_coding", "regulatory", "other_noncoding")


class Authored:
    """Who made a record and who changed it last."""

    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), sort_order=90)
    modified_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), sort_order=91)


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    email: Mapped[str | None]
    is_superuser: Mapped[bool] = mapped_column(default=False)
    is_staff: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    date_joined: Mapped[datetime | None] = mapped_column(DateTime)
    last_login: Mapped[datetime | None] = mapped_column(DateTime)
    is_first_login: Mapped[bool] = mapped_column(server_default=false())


class Role(Base):
    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class UserRole(Base):
    __tablename__ = "users_roles"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id"), primary_key=True)


class License(Dated, Base):
    __tablename__ = "licenses"

    id: Mapped[int] = mapped_column(primary_key=True)
    long_name: Mapped[str] = mapped_column(unique=True)
    short_name: Mapped[str] = mapped_column(unique=True)
    text: Mapped[str]
    link: Mapped[str | None]
    version: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default=true())


class ExperimentSet(Authored, Dated, Base):
    __tablename__ = "experiment_sets"

    id: Mapped[int] = mapped_column(primary_key=True)
    urn: Mapped[str | None] = mapped_column(String(64), unique=True, default=temporary_urn)
    extra_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    private: Mapped[bool] = mapped_column(default=True)
    approved: Mapped[bool] = mapped_column(default=False)
    published_date: Mapped[date | None]
    processing_state: Mapped[str | None]
    num_experiments: Mapped[int] = mapped_column(default=0)


class Experiment(Authored, Dated, Base):
    __tablename__ = "experiments"

    id: Mapped[int] = mapped_column(primary_key=True)
    urn: Mapped[str | None] = mapped_column(String(64), unique=True, default=temporary_urn)
    title: Mapped[str]
    short_description: Mapped[str] = mapped_column(default="")
    abstract_text: Mapped[str] = mapped_column(default="")
    method_text: Mapped[str] = mapped_column(default="")
    extra_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    private: Mapped[bool] = mapped_column(default=True)
    approved: Mapped[bool] = mapped_column(default=False)
    published_date: Mapped[date | None]
    processing_state: Mapped[str | None]
    num_scoresets: Mapped[int] = mapped_column(default=0)
    experiment_set_id: Mapped[int | None] = mapped_column(ForeignKey("experiment_sets.id"))


class ScoreSet(Authored, Dated, Base):
    __tablename__ = "scoresets"
    __table_args__ = (
        CheckConstraint(one_of("processing_state", PROCESSING_STATES), name="processingstate"),
        CheckConstraint(one_of("mapping_state", MAPPING_STATES), name="mappingstate"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    urn: Mapped[str | None] = mapped_column(String(64), unique=True, default=temporary_urn)
    title: Mapped[str]
    method_text: Mapped[str] = mapped_column(default="")
    abstract_text: Mapped[str] = mapped_column(default="")
    short_description: Mapped[str] = mapped_column(default="")
    extra_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    dataset_columns: Mapped[dict[str, Any]] = mapped_column(default=dict)
    external_links: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    normalised: Mapped[bool] = mapped_column(default=False)
    private: Mapped[bool] = mapped_column(default=True)
    approved: Mapped[bool] = mapped_column(default=False)
    published_date: Mapped[date | None]
    processing_state: Mapped[str | None] = mapped_column(String(32))
    processing_errors: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    mapping_state: Mapped[str | None] = mapped_column(String(32))
    mapping_errors: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    data_usage_policy: Mapped[str | None]
    num_variants: Mapped[int] = mapped_column(default=0)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"))
    licence_id: Mapped[int] = mapped_column(ForeignKey("licenses.id"))
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("scoresets.id"))


class GenomeIdentifier(Base):
    """Only what the foreign key of taxonomies needs."""

    __tablename__ = "genome_identifiers"

    id: Mapped[int] = mapped_column(primary_key=True)
    genome: Mapped[str | None]


class Taxonomy(Dated, Base):
    __tablename__ = "taxonomies"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[int]
    organism_name: Mapped[str | None]
    common_name: Mapped[str | None]
    rank: Mapped[str | None]
    has_described_species_name: Mapped[bool | None]
    url: Mapped[str] = mapped_column(default="")
    article_reference: Mapped[str | None]
    genome_identifier_id: Mapped[int | None] = mapped_column(ForeignKey("genome_identifiers.id"))


class TargetSequence(Dated, Base):
    __tablename__ = "target_sequences"

    id: Mapped[int] = mapped_column(primary_key=True)
    sequence_type: Mapped[str]
    sequence: Mapped[str]
    label: Mapped[str | None]
    taxonomy_id: Mapped[int | None] = mapped_column(ForeignKey("taxonomies.id"))


class TargetAccession(Dated, Base):
    __tablename__ = "target_accessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    accession: Mapped[str]
    assembly: Mapped[str | None]
    gene: Mapped[str | None]
    is_base_editor: Mapped[bool] = mapped_column(server_default=false())


class TargetGene(Dated, Base):
    """Has either a sequence or an accession, never both."""

    __tablename__ = "target_genes"
    __table_args__ = (
        CheckConstraint(one_of("category", TARGET_CATEGORIES), name="targetcategory"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str] = mapped_column(String(32))
    scoreset_id: Mapped[int] = mapped_column(ForeignKey("scoresets.id"))
    target_sequence_id: Mapped[int | None] = mapped_column(ForeignKey("target_sequences.id"))
    accession_id: Mapped[int | None] = mapped_column(ForeignKey("target_accessions.id"))
    pre_mapped_metadata: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    post_mapped_metadata: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    mapped_hgnc_name: Mapped[str | None]
    uniprot_id_from_mapped_metadata: Mapped[str | None]


class Variant(Dated, Base):
    """One row of an uploaded table; `data` holds its scores and counts."""

    __tablename__ = "variants"

    id: Mapped[int] = mapped_column(primary_key=True)
    urn: Mapped[str | None] = mapped_column(String(64), unique=True)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    scoreset_id: Mapped[int] = mapped_column(ForeignKey("scoresets.id"), index=True)
    hgvs_nt: Mapped[str | None]
    hgvs_pro: Mapped[str | None]
    hgvs_splice: Mapped[str | None]


class MappedVariant(Base):
    """One mapping of a variant to a human reference. Only the newest is `current`."""

    __tablename__ = "mapped_variants"
    __table_args__ = (
        Index("ix_mapped_variants_pre_mapped_id", text("(pre_mapped ->> 'id')")),
        Index("ix_mapped_variants_post_mapped_id", text("(post_mapped ->> 'id')")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pre_mapped: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    post_mapped: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    variant_id: Mapped[int] = mapped_column(ForeignKey("variants.id"), index=True)
    vrs_version: Mapped[str | None] = mapped_column(server_default="1.3")
    error_message: Mapped[str | None]
    modification_date: Mapped[date] = mapped_column(
        default=today, onupdate=today, server_default=text("CURRENT_DATE")
    )
    mapped_date: Mapped[date] = mapped_column(default=today, server_default="2024-01-01")
    mapping_api_version: Mapped[str] = mapped_column(server_default="0.0.0")
    current: Mapped[bool] = mapped_column(server_default=false())
    clingen_allele_id: Mapped[str | None] = mapped_column(index=True)
    vep_functional_consequence: Mapped[str | None]
    vep_access_date: Mapped[date | None]
    hgvs_assay_level: Mapped[str | None]
    hgvs_g: Mapped[str | None]
    hgvs_c: Mapped[str | None]
    hgvs_p: Mapped[str | None]


class GnomadVariant(Dated, Base):
    __tablename__ = "gnomad_variants"

    id: Mapped[int] = mapped_column(primary_key=True)
    db_name: Mapped[str]
    db_identifier: Mapped[str] = mapped_column(index=True)
    db_version: Mapped[str]
    allele_count: Mapped[int]
    allele_number: Mapped[int]
    allele_frequency: Mapped[float]
    faf95_max: Mapped[float | None]
    faf95_max_ancestry: Mapped[str | None]


class GnomadVariantMappedVariant(Base):
    __tablename__ = "gnomad_variants_mapped_variants"

    mapped_variant_id: Mapped[int] = mapped_column(
        ForeignKey("mapped_variants.id"), primary_key=True
    )
    gnomad_variant_id: Mapped[int] = mapped_column(
        ForeignKey("gnomad_variants.id"), primary_key=True
    )


class ClinicalControl(Dated, Base):
    """What ClinVar says of an allele in one of its releases."""

    __tablename__ = "clinical_controls"

    id: Mapped[int] = mapped_column(primary_key=True)
    gene_symbol: Mapped[str] = mapped_column(index=True)
    clinical_significance: Mapped[str]
    clinical_review_status: Mapped[str]
    db_name: Mapped[str] = mapped_column(index=True)
    db_identifier: Mapped[str] = mapped_column(index=True)
    db_version: Mapped[str] = mapped_column(index=True)


class MappedVariantClinicalControl(Base):
    __tablename__ = "mapped_variants_clinical_controls"

    mapped_variant_id: Mapped[int] = mapped_column(
        ForeignKey("mapped_variants.id"), primary_key=True
    )
    clinical_control_id: Mapped[int] = mapped_column(
        ForeignKey("clinical_controls.id"), primary_key=True
    )


class VariantTranslation(Dated, Base):
    """A protein allele and a nucleotide allele that encodes it, by ClinGen's ids."""

    __tablename__ = "variant_translations"

    aa_clingen_id: Mapped[str] = mapped_column(primary_key=True)
    nt_clingen_id: Mapped[str] = mapped_column(primary_key=True)
