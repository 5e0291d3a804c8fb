"""Captured pieces of ClinVar's releases of four times, from the archive into the store."""

import gzip
from pathlib import Path

import pytest

from deployments.local.simulators.clinvar import create_app
from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from tasks.clients.clinvar_archive import Archive, Release
from tasks.clinvar.store import Record, Store
from tasks.clinvar.variant_summary import read_summary
from tests.support_servers import served

RELEASES = {
    Release(2015, 5): "variant_summary_2015-05_extract.txt",
    Release(2020, 7): "variant_summary_2020-07_brca1_extract.txt",
    Release(2026, 6): "variant_summary_2026-06_extract.txt",
}
ANNOTATED = "variant_summary_2020-04_nt_expansion_annotated.tsv"
#: ClinVar's AlleleIDs of the ten ClinGen alleles that the newest piece names.
CLINGEN = {
    "CA215070": 15041,
    "CA215072": 15042,
    "CA210674": 15043,
    "CA113792": 15044,
    "CA113794": 15045,
    "CA321015": 15046,
    "CA339778": 15050,
    "CA280941": 15051,
    "CA280943": 15052,
    "CA113800": 15053,
}
#: AlleleIDs that ClinGen's captured answers name, and no piece has.
ELSEWHERE = [430421, 208712, 292483, 434777]


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The three releases, downloaded from an archive that serves the captured pieces."""
    folder = tmp_path_factory.mktemp("clinvar")
    files = {
        (release.year, release.month): gzip.compress((data / "clinvar" / name).read_bytes())
        for release, name in RELEASES.items()
    }
    store = Store(str(folder / "store"), s3_endpoint_url=None)
    with served(create_app(files)) as simulator:
        archive = Archive(f"{simulator.url}/archive", 5, 20)
        for release in RELEASES:
            file = folder / f"{release}.gz"
            with file.open("w+b") as download:
                archive.download(release, download, lambda _done, _total: None)
            store.put(str(release), read_summary(file, str(release)).alleles, folder)
    return store


def test_one_allele_is_told_in_the_words_of_each_time(store: Store) -> None:
    gene = "AP5Z1"
    assert store.read("2015-05", [15041]) == {
        15041: Record(15041, gene, "Pathogenic", "classified by single submitter", 2)
    }
    assert store.read("2020-07", [15041, 69066]) == {
        69066: Record(69066, "BRCA1", "Pathogenic", "reviewed by expert panel", 54399)
    }
    assert store.read("2026-06", [15041]) == {
        15041: Record(
            15041,
            gene,
            "Pathogenic/Likely pathogenic",
            "criteria provided, multiple submitters, no conflicts",
            2,
        )
    }


def test_every_allele_of_the_pieces_is_there_and_no_other(store: Store, data: Path) -> None:
    for release, name in RELEASES.items():
        rows = (data / "clinvar" / name).read_text().splitlines()[1:]
        ids = {int(row.split("\t")[0]) for row in rows}
        assert store.read(str(release), [*ids, *ELSEWHERE]).keys() == ids


def test_alleles_without_an_assembly_count_too(store: Store) -> None:
    assert store.read("2015-05", [26715, 75791]) == {
        26715: Record(26715, "POU3F4", "Pathogenic", "classified by single submitter", 11676),
        75791: Record(75791, "-", "not provided", "not classified by submitter", 64862),
    }


def test_the_release_has_the_ten_alleles_that_name_their_clingen_ids(
    store: Store, data: Path
) -> None:
    text = (data / "clinvar" / RELEASES[Release(2026, 6)]).read_text()
    for caid, allele_id in CLINGEN.items():
        assert any(
            row.startswith(f"{allele_id}\t") and f"ClinGen:{caid}" in row
            for row in text.splitlines()
        )
    records = store.read("2026-06", CLINGEN.values())
    assert len(records) == 10
    conflict = records[15046]
    assert isinstance(conflict, Record)
    assert conflict.gene_symbol == "NUBPL"
    assert conflict.clinical_significance == "Conflicting classifications of pathogenicity"
    assert conflict.variation_id == 214885


def test_a_file_whose_header_was_edited_is_refused_by_its_columns(
    data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "annotated.gz"
    file.write_bytes(gzip.compress((data / "clinvar" / ANNOTATED).read_bytes()))
    with pytest.raises(StepError, match="ClinVar 2020-04 lacks the column #AlleleID;") as caught:
        read_summary(file, "2020-04")
    assert caught.value.category is FailureCategory.DATA_ERROR
    assert "AlleleID\tType\tName" in str(caught.value)
