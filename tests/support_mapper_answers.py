"""What the VRS mapper answers about one score set of two variants, in each of its generations."""

from typing import Any

URN = "tmp:5b9c1ac9-3b93-4c42-9c52-0a9a7c5d1a10"

PRE: dict[str, Any] = {
    "type": "Allele",
    "location": {"start": 166, "end": 167},
    "state": {"sequence": "C"},
}
PRE |= {"extensions": [{"name": "a fraction", "value": 0.5}]}
POST = {**PRE, "expressions": [{"syntax": "hgvs.p", "value": "NP_009231.2:p.Thr167Cys"}]}
COMPUTED = {"sequence_type": "protein", "sequence_id": "ga4gh:SQ.nUzI", "sequence": "MDLS"}
MAPPED = {
    "sequence_type": "protein",
    "sequence_id": "ga4gh:SQ.PVq2",
    "sequence_accessions": ["NP_009231.2"],
}
LAYERS = {"p": {"computed_reference_sequence": COMPUTED, "mapped_reference_sequence": MAPPED}}
GENE_INFO = {"hgnc_symbol": "BRCA1", "selection_method": "tx_selection"}
GOOD = {"mavedb_id": f"{URN}#1", "score": 0.5, "vrs_version": "2"}
GOOD |= {"pre_mapped": PRE, "post_mapped": POST}
BAD = {"mavedb_id": f"{URN}#2", "pre_mapped": {}, "error_message": "Variant is intronic"}


def without(answer: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in answer.items() if k not in keys}


GENERATION_B = {
    "dcd_mapping_version": "2025.2.0",
    "mapped_date_utc": "2026-02-04T10:00:00",
    "metadata": {"mapped_scores": [{"mavedb_id": "not a score"}], "error_message": "not ours"},
    "reference_sequences": {"BRCA1 v1.2": {"gene_info": GENE_INFO, "layers": LAYERS}},
    "mapped_scores": [GOOD, BAD],
}
GENERATION_2025_1 = {
    **GENERATION_B,
    "dcd_mapping_version": "2025.1.0",
    "reference_sequences": {"BRCA1 v1.2": {"gene_info": GENE_INFO, **LAYERS}},
}
GENERATION_A = {
    **without(GENERATION_B, "reference_sequences"),
    "dcd_mapping_version": "2024.1.3",
    "computed_protein_reference_sequence": COMPUTED,
    "mapped_protein_reference_sequence": MAPPED,
    "computed_genomic_reference_sequence": None,
}
GENERATION_C = {
    # The scores first: nothing promises an order of the keys.
    "mapped_scores": [{**GOOD, "outcome": "mapped"}, {**BAD, "outcome": "intronic"}],
    **without(GENERATION_B, "dcd_mapping_version", "mapped_date_utc", "mapped_scores"),
    "mapped_date": "2026-02-04",
    "target_mappings": [{"tool_name": "dcd-mapping"}, {"tool_version": "2026.1.0"}],
}
