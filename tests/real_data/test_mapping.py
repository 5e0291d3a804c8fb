"""The mapper's client and what reads VRS, on captured mappings of every age."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from fqfa.constants import AA_CODES

from deployments.local.simulators.mapper import create_app
from deployments.local.simulators.mapper_variants import Target, TargetVariant, map_variants
from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.reasons import Reason
from tasks.clients.vrs_mapper import MappedScore, map_score_set
from tasks.vrs import expression
from tests.support_servers import Simulator, served

URN = "urn:mavedb:00000002-a-2"
#: The target's name, as MaveDB has it, of score sets whose chosen transcript was captured.
TARGETS = {
    "urn:mavedb:00000001-a-4": "UBE2I",
    "urn:mavedb:00000001-b-2": "SUMO1",
    "urn:mavedb:00000041-a-1": "Src catalytic domain",
    "urn:mavedb:00000068-a-1": "TP53 (P72R)",
    "urn:mavedb:00000093-a-1": "BRCA1 translation start through RING domain",
    "urn:mavedb:00000098-a-1": "SCN5A",
    "urn:mavedb:00000099-a-1": "RHO",
    "urn:mavedb:00000103-c-1": "MAPK1",
}


@pytest.fixture(scope="module")
def mapper(data: Path) -> Iterator[Simulator]:
    """What it answers is prepared by each test."""
    del data
    with served(create_app("postgresql://nobody@127.0.0.1:9/none", None)) as simulator:
        yield simulator


def answered(mapper: Simulator, answer: str) -> list[MappedScore]:
    mapper.reset()
    mapper.fail("malformed", body=answer)
    times = {"connect_timeout": 5.0, "base_timeout": 20.0, "timeout_per_variant": 1.0}
    with map_score_set(mapper.url, URN, 10, **times) as result:
        return list(result.scores())


def test_mappings_of_the_oldest_format_are_refused_as_such(mapper: Simulator, data: Path) -> None:
    files = sorted((data / "mapping" / "sample_mappings_gen0").glob("*.json"))
    assert len(files) == 28
    nameless = 0
    for file in files:
        answer = file.read_text()
        with pytest.raises(ServiceError) as caught:
            answered(mapper, answer)
        assert caught.value.category is FailureCategory.DATA_ERROR
        if "NaN" in answer:  # as Python writes it, which is no JSON
            assert "is not JSON" in str(caught.value)
        else:
            assert "none of 10 mapped scores carries a mavedb_id" in str(caught.value)
            assert "DCD_MAPPING_URL must point to dcd_mapping2" in str(caught.value)
            nameless += 1
    assert nameless > 20


def test_several_changes_in_one_variant_have_no_expression_of_their_own(
    mapper: Simulator, data: Path
) -> None:
    examples = json.loads((data / "mapping" / "mapped_scores_vrs2_examples.json").read_text())
    records = [
        {**record, "mavedb_id": record["accession_id"], "vrs_version": "2"}
        for record in examples[URN]
    ]
    references = {"YAP1": {"layers": {"p": {"mapped_reference_sequence": {"sequence_id": "x"}}}}}

    answer = {"reference_sequences": references, "mapped_scores": records}
    scores = answered(mapper, json.dumps(answer))

    assert [score.variant_urn for score in scores] == [r["accession_id"] for r in examples[URN]]
    assert [(s.pre_mapped, s.post_mapped) for s in scores] == [
        (record["pre_mapped"], record["post_mapped"]) for record in examples[URN]
    ]
    assert Counter(expression(score.post_mapped) for score in scores) == {
        Reason.MULTI_VARIANT: 3,
        Reason.NO_HGVS: 1,
    }


def test_of_a_whole_score_set_the_new_mapping_can_be_used_and_the_old_one_cannot(
    data: Path,
) -> None:
    packed = data / "mapping" / "urn_mavedb_00000081-a-1_mapped_variants.json.gz"
    rows = json.loads(gzip.decompress(packed.read_bytes()))
    old = Counter(expression(row["postMapped"]) for row in rows if not row["current"])
    new = [expression(row["postMapped"]) for row in rows if row["current"]]
    assert old == {Reason.OUTDATED_MAPPING: 1_059}
    assert len(set(new)) == 1_059
    assert all(str(hgvs).startswith("NP_009231.2:p.") for hgvs in new)


def test_the_simulated_mapper_finds_the_places_that_a_real_one_found(data: Path) -> None:
    chosen = json.loads((data / "mapping" / "transcript_result.json").read_text())
    for urn, name in TARGETS.items():
        found = chosen[urn]
        residue = AA_CODES[found["sequence"][1]]
        target = Target(name, "protein", found["sequence"])
        variant = TargetVariant(f"{urn}#1", None, f"p.{residue}2Trp", 0.0)
        (record,) = map_variants([variant], [target])
        place = f"{found['np']}:p.{residue}{found['start'] + 2}Trp"
        assert expression(record["post_mapped"]) == place


def test_the_simulated_mapper_writes_vrs_as_the_schemas_describe_it(data: Path) -> None:
    target = Target("BRCA1", "protein", "MDLSALRVEE")
    variants = [
        TargetVariant("u#1", None, "p.Asp2Cys", 0.0),
        TargetVariant("u#2", None, "p.[Asp2Cys;Leu3Trp]", 0.0),
    ]
    records = list(map_variants(variants, [target]))
    for file, allele, block in [
        ("dcd_mapping_output_schema_gen1.json", "Allele", "CisPhasedBlock"),
        ("dcd_mapping2_mavedb-main_schema.json", "ga4gh__vrs___internal__models__Allele", None),
    ]:
        schema = json.loads((data / "mapping" / file).read_text())
        for record, name in zip(records, (allele, block), strict=True):
            if name is None:
                continue
            checker = jsonschema.Draft202012Validator({**schema, **schema["$defs"][name]})
            for kind in ("pre_mapped", "post_mapped"):
                assert list(checker.iter_errors(record[kind])) == []
            assert not checker.is_valid({**record["post_mapped"], "type": "VariationDescriptor"})
