"""The object around `mapped_scores`, in each of the forms that mappers have answered in.

Everything is made in generation B (2025 to early 2026) and rewritten as A (2024) or C (2026).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

_RECORDS_A_PIECE = 200
_LONG_NAMES = {"g": "genomic", "p": "protein", "c": "cdna"}

Head = dict[str, Any]
Record = Mapping[str, Any]


def generation_b(score_set_urn: str, reference_sequences: Mapping[str, Any]) -> Head:
    """All of an answer but its mapped scores."""
    return {
        "dcd_mapping_version": "2025.2.0",
        "mapped_date_utc": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        "metadata": {"urn": score_set_urn},
        "reference_sequences": dict(reference_sequences),
    }


def generation_a(head: Head, records: Iterable[Record]) -> tuple[Head, Iterator[Record]]:
    """One target without a name, and no record of a variant that was not mapped."""
    old = {k: v for k, v in head.items() if k != "reference_sequences"}
    old["dcd_mapping_version"] = "2024.1.3"
    target: Record = next(iter(head["reference_sequences"].values()), {"layers": {}})
    for layer, references in target["layers"].items():
        for kind in ("computed", "mapped"):
            key = f"{kind}_reference_sequence"
            if key in references:
                old[f"{kind}_{_LONG_NAMES[layer]}_reference_sequence"] = references[key]
    return old, (record for record in records if "error_message" not in record)


def generation_c(head: Head, records: Iterable[Record]) -> tuple[Head, Iterator[Record]]:
    """The mapper's version goes to each target's level, and each record gets an outcome."""
    targets = head["reference_sequences"]
    new: Head = {
        "metadata": head["metadata"],
        "mapped_date": head["mapped_date_utc"],
        "reference_sequences": targets,
        "target_mappings": [
            {
                "target_gene_identifier": name,
                "alignment_level": layer,
                "preferred": True,
                "reference_accession": accession,
                "reference_sequence_id": references["mapped_reference_sequence"]["sequence_id"],
                "tool_name": "dcd-mapping",
                "tool_version": "2026.1.0",
                "tool_parameters": {"aligner": "blat"},
                "vrs_version": "2",
            }
            for name, target in targets.items()
            for layer, references in target["layers"].items()
            for accession in references["mapped_reference_sequence"]["sequence_accessions"]
        ],
    }
    only_target = {"target_gene_identifier": next(iter(targets))} if len(targets) == 1 else {}
    return new, (
        {
            **record,
            **only_target,
            "outcome": _outcome(record.get("error_message")),
            "at_mismatched_locus": False,
            "near_gap": False,
        }
        for record in records
    )


def _outcome(error_message: str | None) -> str:
    if error_message is None:
        return "mapped"
    if "intronic" in error_message:
        return "intronic"
    return "no_protein_consequence" if "no protein consequence" in error_message else "failed"


def as_json(head: Head, records: Iterable[Record]) -> Iterator[str]:
    """The answer's text, in pieces."""
    yield json.dumps(head)[:-1] + ', "mapped_scores": ['
    remaining, separator = iter(records), ""
    while batch := list(islice(remaining, _RECORDS_A_PIECE)):
        yield separator + ", ".join(json.dumps(record) for record in batch)
        separator = ", "
    yield "]}"
