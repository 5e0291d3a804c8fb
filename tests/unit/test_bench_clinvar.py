"""The release of ClinVar that the benchmark loads: all of it is read, as the archive's are."""

import gzip
from pathlib import Path

from deployments.local.bench.clinvar_release import write_release
from deployments.local.simulators.clinvar_releases import columns
from tasks.clinvar.variant_summary import read_summary


def test_each_allele_has_a_row_of_each_assembly_in_the_archives_format(tmp_path: Path) -> None:
    file = tmp_path / "variant_summary.txt.gz"
    write_release(file, 100_001)

    header, *lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    assert header.split("\t") == columns(2026, 1)
    assert len(lines) == 100_001
    row = dict(zip(header.split("\t"), lines[-1].split("\t"), strict=True))
    assert row["Assembly"] == "GRCh37", "the last allele's second row was cut off"
    assert row["#AlleleID"] == "65041"
    assert sum(value == "-" for value in row.values()) < 12

    summary = read_summary(file, "2026-01")
    assert (summary.rows, summary.nobodys_rows) == (100_001, 0)
    assert summary.alleles.height == 50_001
    assert summary.alleles["clinical_significance"].n_unique() > 3
    assert summary.alleles.row(-1, named=True)["gene_symbol"] == row["GeneSymbol"]
