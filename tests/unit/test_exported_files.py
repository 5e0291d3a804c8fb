"""Files that MaveDB exported become a submission, or one message says what is wrong with them."""

from pathlib import Path

import pytest

from deployments.local.submission import SubmissionError, read_export


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_accessions_are_dropped_and_name_the_score_set(tmp_path: Path) -> None:
    scores = write(
        tmp_path, "scores.csv", 'accession,hgvs_nt,score,note\nurn:mavedb:1-a-1#7,c.1A>G,1,"a, b"\n'
    )
    counts = write(tmp_path, "counts.csv", "accession,hgvs_nt,c_0\nurn:mavedb:1-a-1#7,c.1A>G,5\n")
    target = write(tmp_path, "target.fasta", ">BRCA1 RING dna urn:mavedb:2-a-1\nATG\nGAT\n")
    submission = read_export(scores, counts, target)
    assert submission.urn == "urn:mavedb:1-a-1"
    assert submission.scores_csv == b'hgvs_nt,score,note\nc.1A>G,1,"a, b"\n'
    assert submission.counts_csv == b"hgvs_nt,c_0\nc.1A>G,5\n"
    assert (submission.target_name, submission.sequence_type) == ("BRCA1 RING", "dna")
    assert submission.sequence == "ATGGAT"


def test_a_file_without_accessions_goes_as_it_is_even_when_it_is_broken(tmp_path: Path) -> None:
    content = b"hgvs_pro,score\r\np.Met1Val,\xff\r\n"
    target = write(tmp_path, "target.fasta", ">SUMO1\nMSDQEAKPSTEDLGDKKEGEYIKLK\n")
    submission = read_export(write(tmp_path, "scores.csv", content), None, target)
    assert submission.scores_csv == content
    assert submission.counts_csv is None
    assert submission.urn.startswith("tmp:")
    assert submission.sequence_type == "protein"


def test_a_broken_file_with_accessions_keeps_its_bytes_and_ragged_rows(tmp_path: Path) -> None:
    content = b"accession,hgvs_pro,score\n\nurn:mavedb:1-a-1#1,p.Met1Val,\xff\nx,p.Met1Leu,1,2\n"
    target = write(tmp_path, "target.fasta", ">SUMO1 protein\nMSD\n")
    submission = read_export(write(tmp_path, "scores.csv", content), None, target)
    assert submission.scores_csv == b"hgvs_pro,score\n\np.Met1Val,\xff\np.Met1Leu,1,2\n"
    assert submission.urn == "urn:mavedb:1-a-1"


@pytest.mark.parametrize(
    ("fasta", "complaint"),
    [
        ("", "target.fasta holds 0 sequences: it must hold the one target's"),
        (">A dna\nATG\n>B dna\nATG\n", "target.fasta holds 2 sequences"),
        ("ATG\n", "target.fasta holds 0 sequences"),
        (b">A\nAT\xff\n", "target.fasta is not FASTA"),
        (">A\n12345\n", "target.fasta holds neither a DNA nor a protein sequence"),
    ],
)
def test_a_bad_target_file_is_named(tmp_path: Path, fasta: str | bytes, complaint: str) -> None:
    scores = write(tmp_path, "scores.csv", "hgvs_nt,score\nc.1A>G,1\n")
    with pytest.raises(SubmissionError, match=complaint):
        read_export(scores, None, write(tmp_path, "target.fasta", fasta))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    target = write(tmp_path, "target.fasta", ">A dna\nATG\n")
    with pytest.raises(SubmissionError, match=r"absent\.csv cannot be read: No such file"):
        read_export(tmp_path / "absent.csv", None, target)
