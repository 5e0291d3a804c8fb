"""A mapper's answer made of what MaveDB exports: to replay a real mapping."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from deployments.local.simulators.mapper_envelope import (
    generation_a,
    generation_b,
    generation_c,
)


def replay_answer(
    exported_rows: Iterable[Mapping[str, Any]],
    scores_csv_rows: Iterable[Mapping[str, str]],
    urn: str,
    generation: Literal["A", "B", "C"],
    *,
    target_name: str = "BRCA1",
    hgnc_symbol: str = "BRCA1",
) -> dict[str, Any]:
    """The answer of a mapper of `generation` for the score set `urn`.

    `exported_rows` are the rows of MaveDB's /mapped-variants (only current ones count, of one
    target), `scores_csv_rows` the upload with hgvs_pro and score. They are joined by the HGVS
    after the colon. Rows that were not exported get an error (B, C) or no record (A).
    """
    exported = {
        row["postMapped"]["expressions"][0]["value"].partition(":")[2]: row
        for row in exported_rows
        if row["current"]
    }
    records: list[dict[str, Any]] = []
    for n, scored in enumerate(scores_csv_rows, start=1):
        record: dict[str, Any] = {"mavedb_id": f"{urn}#{n}", "relation": "SO:is_homologous_to"}
        if scored["score"] not in {"", "NA"}:
            record["score"] = float(scored["score"])
        mapped = exported.get(scored["hgvs_pro"])
        if mapped:
            record["vrs_version"] = mapped["vrsVersion"]
            record["pre_mapped"] = mapped["preMapped"]
            record["post_mapped"] = mapped["postMapped"]
        else:
            record["error_message"] = f"{scored['hgvs_pro']} has no protein consequence to map"
        records.append(record)
    head = generation_b(urn, _references(exported, target_name, hgnc_symbol))
    head["mapped_date_utc"] = next(iter(exported.values()))["mappedDate"]
    if generation == "A":
        return _joined(*generation_a(head, records))
    return _joined(*generation_c(head, records)) if generation == "C" else _joined(head, records)


def _references(
    exported: Mapping[str, Mapping[str, Any]], target_name: str, hgnc_symbol: str
) -> dict[str, Any]:
    row = next(iter(exported.values()))
    layer = row["postMapped"]["expressions"][0]["syntax"].removeprefix("hgvs.")
    sequence_type = "protein" if layer == "p" else "dna"
    own, human = (row[k]["location"]["sequenceReference"] for k in ("preMapped", "postMapped"))
    return {
        target_name: {
            "gene_info": {"hgnc_symbol": hgnc_symbol, "selection_method": "tx_selection"},
            "layers": {
                layer: {
                    "computed_reference_sequence": {
                        "sequence_type": sequence_type,
                        "sequence_id": f"ga4gh:{own['refgetAccession']}",
                        "sequence": "",
                    },
                    "mapped_reference_sequence": {
                        "sequence_type": sequence_type,
                        "sequence_id": f"ga4gh:{human['refgetAccession']}",
                        "sequence_accessions": [human["label"]],
                    },
                }
            },
        }
    }


def _joined(head: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {**head, "mapped_scores": [dict(record) for record in records]}
