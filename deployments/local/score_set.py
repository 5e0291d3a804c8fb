"""A score set as a deep mutational scan would give it: seeded, plausible, and of any size."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fqfa.constants.iupac.protein import AA_CODES
from fqfa.constants.translation.table import CODON_TABLE

#: The first 100 codons of BRCA1 (NM_007294.4, coding sequence): the RING domain.
BRCA1_RING = (
    "ATGGATTTATCTGCTCTTCGCGTTGAAGAAGTACAAAATGTCATTAATGCTATGCAGAAAATCTTAGAGTGTCCCATCTGTCTGGAG"
    "TTGATCAAGGAACCTGTCTCCACAAAGTGTGACCACATATTTTGCAAATTTTGCATGCTGAAACTTCTCAACCAGAAGAAAGGGCCT"
    "TCACAGTGTCCTTTATGTAAGAATGATATAACCAAAAGGAGCCTACAAGAAAGTACGAGATTTAGTCAACTTGTTGAAGAGCTATTG"
    "AAAATCATTTGTGCTTTTCAGCTTGACACAGGTTTGGAG"
)

_STOP = "*"
_CODONS = sorted(CODON_TABLE)
#: Composition, polarity and volume of each side chain, as in Grantham (1974).
_GRANTHAM = {
    **{"S": (1.42, 9.2, 32), "R": (0.65, 10.5, 124), "L": (0, 4.9, 111), "P": (0.39, 8.0, 32.5)},
    **{"T": (0.71, 8.6, 61), "A": (0, 8.1, 31), "V": (0, 5.9, 84), "G": (0.74, 9.0, 3)},
    **{"I": (0, 5.2, 111), "F": (0, 5.2, 132), "Y": (0.20, 6.2, 136), "C": (2.75, 5.5, 55)},
    **{"H": (0.58, 10.4, 96), "Q": (0.89, 10.5, 85), "N": (1.33, 11.6, 56), "K": (0.33, 11.3, 119)},
    **{"D": (1.38, 13.0, 54), "E": (0.92, 12.3, 83), "M": (0, 5.7, 105), "W": (0.13, 5.4, 170)},
}
_LARGEST_DISTANCE = 215.0

_REPLICATES = ("rep1", "rep2")
_SCORE_COLUMNS = ("hgvs_nt", "hgvs_pro", "score", "SE", "epsilon")
_COUNT_COLUMNS = (
    "hgvs_nt",
    "hgvs_pro",
    *(f"c_{time}_{replicate}" for replicate in _REPLICATES for time in (0, 1)),
)


@dataclass(frozen=True)
class CodonChange:
    """One codon of the target, counted from 1, replaced by another."""

    position: int
    before: str
    after: str

    @property
    def hgvs_nt(self) -> str:
        """In MAVE-HGVS, from the first base that differs to the last."""
        changed = [i for i in range(3) if self.before[i] != self.after[i]]
        first, last = changed[0], changed[-1]
        start = 3 * (self.position - 1) + 1 + first
        if first == last:
            return f"c.{start}{self.before[first]}>{self.after[first]}"
        return f"c.{start}_{start + last - first}delins{self.after[first : last + 1]}"

    @property
    def hgvs_pro(self) -> str:
        before, after = CODON_TABLE[self.before], CODON_TABLE[self.after]
        consequence = "=" if before == after else AA_CODES[after]
        return f"p.{AA_CODES[before]}{self.position}{consequence}"


def generate(seed: int, variants: int, target: str) -> tuple[str, str]:
    """The score file and the count file, as CSV, of `variants` codon changes of a coding `target`.

    Scores are 1 for what is as good as wild type and 0 for what has lost its function. Raises
    ValueError when the target is not whole codons without a stop before the last, or has fewer
    changes than asked for.
    """
    codons = _split(target)
    possible = len(codons) * (len(_CODONS) - 1)
    if variants > possible:
        raise ValueError(f"{len(codons)} codons have {possible} changes; {variants} were asked for")
    rng = random.Random(seed)
    changes = [_change(codons, index) for index in sorted(rng.sample(range(possible), variants))]
    tolerances = list(_tolerances(rng, len(codons)))
    scores, counts = [",".join(_SCORE_COLUMNS)], [",".join(_COUNT_COLUMNS)]
    for change in changes:
        score = _score(rng, change, tolerances[change.position - 1], len(codons))
        names = f"{change.hgvs_nt},{change.hgvs_pro}"
        reads, error = _reads(rng, score)
        epsilon = abs(rng.gauss(0, 1e-6))
        scores.append(f"{names},{score:.6f},{error:.6f},{epsilon:.3g}")
        counts.append(f"{names},{','.join(map(str, reads))}")
    return "\n".join(scores) + "\n", "\n".join(counts) + "\n"


def synthetic_target(seed: int, codons: int) -> str:
    """A coding sequence of that many codons, from the start codon on and without a stop."""
    rng = random.Random(seed)
    sense = [codon for codon in _CODONS if CODON_TABLE[codon] != _STOP]
    return "ATG" + "".join(rng.choices(sense, k=codons - 1))


def _split(target: str) -> list[str]:
    codons = [target[i : i + 3] for i in range(0, len(target), 3)]
    for position, codon in enumerate(codons, start=1):
        if codon not in CODON_TABLE:
            raise ValueError(
                f"the target's codon {position}, {codon!r}, is not three of A, C, G, T"
            )
        if CODON_TABLE[codon] == _STOP and position < len(codons):
            raise ValueError(f"the target's codon {position}, {codon!r}, is a stop before the end")
    return codons


def _change(codons: Sequence[str], index: int) -> CodonChange:
    """The index-th of all changes, which are 63 for each codon."""
    position, which = divmod(index, len(_CODONS) - 1)
    before = codons[position]
    return CodonChange(position + 1, before, [c for c in _CODONS if c != before][which])


def _tolerances(rng: random.Random, positions: int) -> Iterator[float]:
    """How much each position bears, from 0 (nothing) to 1: neighbours are alike."""
    tolerance = 0.5
    for _ in range(positions):
        tolerance = 0.6 * tolerance + 0.4 * rng.betavariate(0.7, 0.7)
        yield tolerance


def _score(rng: random.Random, change: CodonChange, tolerance: float, positions: int) -> float:
    before, after = CODON_TABLE[change.before], CODON_TABLE[change.after]
    if before == after:
        return rng.gauss(1.0, 0.07)
    if after == _STOP:
        # A stop among the last residues removes little.
        return rng.gauss(0.8 if change.position > 0.97 * positions else 0.0, 0.07)
    if change.position == 1 or before == _STOP:
        return rng.gauss(0.05, 0.1)
    p_loss = 1 / (1 + math.exp(-8 * (_severity(before, after) - tolerance + 0.05)))
    if rng.random() < 0.12:
        return rng.gauss(1 - p_loss, 0.15)  # between the two modes
    return rng.gauss(0.05, 0.1) if rng.random() < p_loss else rng.gauss(0.95, 0.1)


def _severity(before: str, after: str) -> float:
    """Grantham's distance of two amino acids, from 0 to 1; proline breaks the backbone, too."""
    distance = math.sqrt(
        sum(
            weight * (x - y) ** 2
            for weight, x, y in zip(
                (1.833, 0.1018, 0.000399), _GRANTHAM[before], _GRANTHAM[after], strict=True
            )
        )
    )
    relative = 50.723 * distance / _LARGEST_DISTANCE
    return min(1.0, relative + (0.35 if after == "P" else 0.0))


def _reads(rng: random.Random, score: float) -> tuple[list[int], float]:
    """Reads before and after selection in each replicate, and the standard error they imply."""
    reads = []
    for _ in _REPLICATES:
        before = max(10, round(rng.lognormvariate(5.0, 0.6)))
        expected = before * math.exp(1.2 * (score - 0.6))
        reads += [before, max(0, round(rng.gauss(expected, math.sqrt(expected))))]
    return reads, math.sqrt(sum(1 / (count + 0.5) for count in reads)) / len(_REPLICATES)
