"""The external services that steps ask, and which step asks which."""

from collections.abc import Mapping
from enum import StrEnum

from mavedb_audit.reasons import Reason


class Service(StrEnum):
    """A service that steps ask, by the name of its limit in Prefect."""

    VRS_MAPPER = "mavedb-vrs-mapper"
    CLINGEN_ALLELE_REGISTRY = "mavedb-clingen-allele-registry"
    LINKED_DATA_HUB = "mavedb-linked-data-hub"
    GNOMAD = "mavedb-gnomad"
    CLINVAR_ARCHIVE = "mavedb-clinvar-archive"
    UNIPROT = "mavedb-uniprot"
    ENSEMBL = "mavedb-ensembl"


#: By job function, the services that a step asks, first the one that its annotation is from.
ASKED_BY: Mapping[str, tuple[Service, ...]] = {
    "map_variants_for_score_set": (Service.VRS_MAPPER,),
    "submit_score_set_mappings_to_car": (Service.CLINGEN_ALLELE_REGISTRY,),
    "warm_clingen_cache": (Service.CLINGEN_ALLELE_REGISTRY,),
    "populate_mapped_hgvs_for_score_set": (Service.CLINGEN_ALLELE_REGISTRY,),
    "populate_variant_translations_for_score_set": (Service.CLINGEN_ALLELE_REGISTRY,),
    "link_gnomad_variants": (Service.GNOMAD,),
    "refresh_clinvar_controls": (Service.CLINVAR_ARCHIVE, Service.CLINGEN_ALLELE_REGISTRY),
    "load_clinvar_release": (Service.CLINVAR_ARCHIVE,),
    "populate_vep_for_score_set": (Service.ENSEMBL,),
    "submit_uniprot_mapping_jobs_for_score_set": (Service.UNIPROT,),
    "poll_uniprot_mapping_jobs_for_score_set": (Service.UNIPROT,),
    "submit_score_set_mappings_to_ldh": (Service.LINKED_DATA_HUB,),
}

#: Reasons that are another service's than the step's first one, whatever the annotation.
REASON_OF: Mapping[Reason, Service] = {
    Reason.CLINGEN_LOOKUP_FAILED: Service.CLINGEN_ALLELE_REGISTRY,
}
