"""Which alleles of the simulated ClinGen registry the simulated ClinVar knows, and by what number.

ClinGen's simulator tells the number, ClinVar's archive lists it: this rule is all they share.
"""

import random

#: ClinVar's alleles, all of them: some are in no release, or in some releases only.
ALLELE_IDS = range(15_041, 25_041)
_LINKED = 0.3


def clinvar_allele_id(allele_id: str) -> int | None:
    """The ClinVar AlleleID that ClinGen links CA… to; None: it links none, as of any PA…."""
    if not allele_id.startswith("CA"):
        return None
    draw = random.Random(f"ClinVar allele of CA{int(allele_id[2:])}")
    return draw.choice(ALLELE_IDS) if draw.random() < _LINKED else None
