"""MaveDB's domain tables and the view on them, for a database of our own.

Does nothing without -x standalone=true: in MaveDB's database they exist and are MaveDB's.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

from mavedb_audit.errors import SchemaError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

VIEW = "published_variants_materialized_view"

#: In the order in which they can be dropped.
TABLES = (
    "variant_translations",
    "mapped_variants_clinical_controls",
    "clinical_controls",
    "gnomad_variants_mapped_variants",
    "gnomad_variants",
    "mapped_variants",
    "variants",
    "target_genes",
    "target_accessions",
    "target_sequences",
    "taxonomies",
    "genome_identifiers",
    "scoresets",
    "experiments",
    "experiment_sets",
    "licenses",
    "users_roles",
    "roles",
    "users",
)


def upgrade() -> None:
    if not is_standalone():
        return
    there = set(TABLES) & set(sa.inspect(op.get_bind()).get_table_names())
    if there:
        raise SchemaError(
            f"The table {min(there)} is there already, so this is not an empty database."
            " In MaveDB's own database leave out -x standalone=true"
        )
    create_users()
    create_score_sets()
    create_targets()
    create_variants()
    create_annotations()
    create_view()


def downgrade() -> None:
    if not is_standalone():
        return
    op.execute(f"DROP MATERIALIZED VIEW {VIEW}")
    for table in TABLES:
        op.drop_table(table)


def is_standalone() -> bool:
    return context.get_x_argument(as_dictionary=True).get("standalone") == "true"


def key() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def required(name: str, *definition: Any, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, *definition, nullable=False, **more)


def dates() -> list[sa.Column[Any]]:
    return [required("creation_date", sa.Date), required("modification_date", sa.Date)]


def authors() -> list[sa.Column[Any]]:
    return [
        sa.Column("created_by_id", sa.Integer, sa.ForeignKey("users.id")),
        sa.Column("modified_by_id", sa.Integer, sa.ForeignKey("users.id")),
    ]


def create_index_of_each(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, [column])


def create_users() -> None:
    op.create_table(
        "users",
        key(),
        required("username", sa.String, unique=True),
        sa.Column("first_name", sa.String),
        sa.Column("last_name", sa.String),
        sa.Column("email", sa.String),
        required("is_superuser", sa.Boolean),
        required("is_staff", sa.Boolean),
        required("is_active", sa.Boolean),
        sa.Column("date_joined", sa.DateTime),
        sa.Column("last_login", sa.DateTime),
        required("is_first_login", sa.Boolean, server_default=sa.false()),
    )
    op.create_table("roles", key(), required("name", sa.String))
    op.create_table(
        "users_roles",
        sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("role_id", sa.Integer, sa.ForeignKey("roles.id"), primary_key=True),
    )


def create_score_sets() -> None:
    op.create_table(
        "licenses",
        key(),
        required("long_name", sa.String, unique=True),
        required("short_name", sa.String, unique=True),
        required("text", sa.String),
        sa.Column("link", sa.String),
        sa.Column("version", sa.String),
        required("active", sa.Boolean, server_default=sa.true()),
        *dates(),
    )
    op.create_table(
        "experiment_sets",
        key(),
        sa.Column("urn", sa.String(64), unique=True),
        required("extra_metadata", JSONB),
        required("private", sa.Boolean),
        required("approved", sa.Boolean),
        sa.Column("published_date", sa.Date),
        sa.Column("processing_state", sa.String),
        required("num_experiments", sa.Integer),
        *authors(),
        *dates(),
    )
    op.create_table(
        "experiments",
        key(),
        sa.Column("urn", sa.String(64), unique=True),
        required("title", sa.String),
        required("short_description", sa.String),
        required("abstract_text", sa.String),
        required("method_text", sa.String),
        required("extra_metadata", JSONB),
        required("private", sa.Boolean),
        required("approved", sa.Boolean),
        sa.Column("published_date", sa.Date),
        sa.Column("processing_state", sa.String),
        required("num_scoresets", sa.Integer),
        sa.Column("experiment_set_id", sa.Integer, sa.ForeignKey("experiment_sets.id")),
        *authors(),
        *dates(),
    )
    op.create_table(
        "scoresets",
        key(),
        sa.Column("urn", sa.String(64), unique=True),
        required("title", sa.String),
        required("method_text", sa.String),
        required("abstract_text", sa.String),
        required("short_description", sa.String),
        required("extra_metadata", JSONB),
        required("dataset_columns", JSONB),
        required("external_links", JSONB, server_default=sa.text("'{}'")),
        required("normalised", sa.Boolean),
        required("private", sa.Boolean),
        required("approved", sa.Boolean),
        sa.Column("published_date", sa.Date),
        sa.Column("processing_state", sa.String(32)),
        sa.Column("processing_errors", JSONB),
        sa.Column("mapping_state", sa.String(32)),
        sa.Column("mapping_errors", JSONB),
        sa.Column("data_usage_policy", sa.String),
        required("num_variants", sa.Integer),
        required("experiment_id", sa.Integer, sa.ForeignKey("experiments.id")),
        required("licence_id", sa.Integer, sa.ForeignKey("licenses.id")),
        sa.Column("replaces_id", sa.Integer, sa.ForeignKey("scoresets.id")),
        *authors(),
        *dates(),
        sa.CheckConstraint(
            "processing_state IN ('incomplete', 'processing', 'failed', 'success')",
            name="processingstate",
        ),
        sa.CheckConstraint(
            "mapping_state IN ('incomplete', 'processing', 'failed', 'complete',"
            " 'pending_variant_processing', 'not_attempted', 'queued')",
            name="mappingstate",
        ),
    )


def create_targets() -> None:
    op.create_table("genome_identifiers", key(), sa.Column("genome", sa.String))
    op.create_table(
        "taxonomies",
        key(),
        required("code", sa.Integer),
        sa.Column("organism_name", sa.String),
        sa.Column("common_name", sa.String),
        sa.Column("rank", sa.String),
        sa.Column("has_described_species_name", sa.Boolean),
        required("url", sa.String),
        sa.Column("article_reference", sa.String),
        sa.Column("genome_identifier_id", sa.Integer, sa.ForeignKey("genome_identifiers.id")),
        *dates(),
    )
    op.create_table(
        "target_sequences",
        key(),
        required("sequence_type", sa.String),
        required("sequence", sa.String),
        sa.Column("label", sa.String),
        sa.Column("taxonomy_id", sa.Integer, sa.ForeignKey("taxonomies.id")),
        *dates(),
    )
    op.create_table(
        "target_accessions",
        key(),
        required("accession", sa.String),
        sa.Column("assembly", sa.String),
        sa.Column("gene", sa.String),
        required("is_base_editor", sa.Boolean, server_default=sa.false()),
        *dates(),
    )
    op.create_table(
        "target_genes",
        key(),
        required("name", sa.String),
        required("category", sa.String(32)),
        required("scoreset_id", sa.Integer, sa.ForeignKey("scoresets.id")),
        sa.Column("target_sequence_id", sa.Integer, sa.ForeignKey("target_sequences.id")),
        sa.Column("accession_id", sa.Integer, sa.ForeignKey("target_accessions.id")),
        sa.Column("pre_mapped_metadata", JSONB),
        sa.Column("post_mapped_metadata", JSONB),
        sa.Column("mapped_hgnc_name", sa.String),
        sa.Column("uniprot_id_from_mapped_metadata", sa.String),
        *dates(),
        sa.CheckConstraint(
            "category IN ('protein_coding', 'regulatory', 'other_noncoding')",
            name="targetcategory",
        ),
    )


def create_variants() -> None:
    op.create_table(
        "variants",
        key(),
        sa.Column("urn", sa.String(64), unique=True),
        required("data", JSONB),
        required("scoreset_id", sa.Integer, sa.ForeignKey("scoresets.id")),
        sa.Column("hgvs_nt", sa.String),
        sa.Column("hgvs_pro", sa.String),
        sa.Column("hgvs_splice", sa.String),
        *dates(),
    )
    create_index_of_each("variants", "scoreset_id")
    op.create_table(
        "mapped_variants",
        key(),
        sa.Column("pre_mapped", JSONB),
        sa.Column("post_mapped", JSONB),
        required("variant_id", sa.Integer, sa.ForeignKey("variants.id")),
        sa.Column("vrs_version", sa.String, server_default="1.3"),
        sa.Column("error_message", sa.String),
        required("modification_date", sa.Date, server_default=sa.text("CURRENT_DATE")),
        required("mapped_date", sa.Date, server_default="2024-01-01"),
        required("mapping_api_version", sa.String, server_default="0.0.0"),
        required("current", sa.Boolean, server_default=sa.false()),
        sa.Column("clingen_allele_id", sa.String),
        sa.Column("vep_functional_consequence", sa.String),
        sa.Column("vep_access_date", sa.Date),
        sa.Column("hgvs_assay_level", sa.String),
        sa.Column("hgvs_g", sa.String),
        sa.Column("hgvs_c", sa.String),
        sa.Column("hgvs_p", sa.String),
    )
    create_index_of_each("mapped_variants", "variant_id", "clingen_allele_id")
    for column in ("pre_mapped", "post_mapped"):
        op.create_index(
            f"ix_mapped_variants_{column}_id", "mapped_variants", [sa.text(f"({column} ->> 'id')")]
        )


def create_annotations() -> None:
    op.create_table(
        "gnomad_variants",
        key(),
        required("db_name", sa.String),
        required("db_identifier", sa.String),
        required("db_version", sa.String),
        required("allele_count", sa.Integer),
        required("allele_number", sa.Integer),
        required("allele_frequency", sa.Double),
        sa.Column("faf95_max", sa.Double),
        sa.Column("faf95_max_ancestry", sa.String),
        *dates(),
    )
    create_index_of_each("gnomad_variants", "db_identifier")
    op.create_table(
        "gnomad_variants_mapped_variants",
        sa.Column(
            "mapped_variant_id", sa.Integer, sa.ForeignKey("mapped_variants.id"), primary_key=True
        ),
        sa.Column(
            "gnomad_variant_id", sa.Integer, sa.ForeignKey("gnomad_variants.id"), primary_key=True
        ),
    )
    op.create_table(
        "clinical_controls",
        key(),
        required("gene_symbol", sa.String),
        required("clinical_significance", sa.String),
        required("clinical_review_status", sa.String),
        required("db_name", sa.String),
        required("db_identifier", sa.String),
        required("db_version", sa.String),
        *dates(),
    )
    create_index_of_each(
        "clinical_controls", "gene_symbol", "db_name", "db_identifier", "db_version"
    )
    op.create_table(
        "mapped_variants_clinical_controls",
        sa.Column(
            "mapped_variant_id", sa.Integer, sa.ForeignKey("mapped_variants.id"), primary_key=True
        ),
        sa.Column(
            "clinical_control_id",
            sa.Integer,
            sa.ForeignKey("clinical_controls.id"),
            primary_key=True,
        ),
    )
    op.create_table(
        "variant_translations",
        sa.Column("aa_clingen_id", sa.String, primary_key=True),
        sa.Column("nt_clingen_id", sa.String, primary_key=True),
        *dates(),
    )


def create_view() -> None:
    op.execute(
        f"""
        CREATE MATERIALIZED VIEW {VIEW} AS
        SELECT variants.id AS variant_id,
               variants.urn AS variant_urn,
               mapped_variants.id AS mapped_variant_id,
               scoresets.id AS score_set_id,
               scoresets.urn AS score_set_urn,
               scoresets.published_date AS published_date,
               mapped_variants.current AS current_mapped_variant
          FROM variants
          LEFT JOIN mapped_variants ON mapped_variants.variant_id = variants.id
          JOIN scoresets ON scoresets.id = variants.scoreset_id
         WHERE scoresets.published_date IS NOT NULL
        """
    )
    # REFRESH ... CONCURRENTLY needs a unique index.
    op.create_index(
        f"ix_{VIEW}", VIEW, ["mapped_variant_id", "variant_id", "score_set_id"], unique=True
    )
