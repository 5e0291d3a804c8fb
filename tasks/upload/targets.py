"""What the variants of a score set are written against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fqfa.util.translate import translate_dna

from tasks.upload.table import invalid


@dataclass(frozen=True)
class Target:
    """A target gene: either a sequence with its type (dna or protein), or an accession."""

    name: str
    label: str | None
    sequence: str | None
    sequence_type: str | None
    accession: str | None
    is_base_editor: bool

    def nucleotides(self) -> str | None:
        """The DNA in capitals; None for a protein."""
        return self.sequence.upper() if self.sequence and self.sequence_type == "dna" else None

    def amino_acids(self) -> str:
        """The protein in one-letter codes, translated from base 1 for DNA.

        A stop codon becomes `*`; one or two bases left over at the end are not translated.
        """
        if not self.sequence:
            return ""
        dna = self.nucleotides()
        if dna is None:
            return self.sequence.upper()
        try:
            return str(translate_dna(dna)[0])
        except KeyError as error:
            raise invalid(
                f"target {self.name}: its DNA cannot be translated ({error.args[0]}), so hgvs_pro"
                " cannot be checked; correct the target's sequence or leave hgvs_pro out"
            ) from error


@dataclass(frozen=True)
class Targets:
    """All targets of a score set, by the name their variants carry.

    `qualified`: variants are written `name:variant`.
    """

    by_name: Mapping[str, Target]
    qualified: bool
    accession_based: bool
    base_editor: bool


def arrange_targets(targets: Sequence[Target]) -> Targets:
    """Raises StepError (validation_error) for targets that no variant can be written against."""
    if not targets:
        raise invalid("the score set has no target; add one, then upload the scores again")
    problems = [problem for target in targets if (problem := _problem(target))]
    accession_based = targets[0].accession is not None
    if not problems and any((t.accession is not None) != accession_based for t in targets):
        problems.append(
            "the score set has targets given by sequence and targets given by accession"
            f" ({', '.join(target.name for target in targets)}); use one kind only"
        )
    by_name: dict[str, Target] = {}
    for target in targets:
        name = target.accession or target.label or target.name
        if by_name.setdefault(name, target) is not target:
            problems.append(f"two targets are both called {name}; give each a label of its own")
    if problems:
        raise invalid("; ".join(problems), problems)
    return Targets(
        by_name=by_name,
        qualified=accession_based or len(targets) > 1,
        accession_based=accession_based,
        base_editor=accession_based and all(target.is_base_editor for target in targets),
    )


def _problem(target: Target) -> str | None:
    if target.accession is None and not target.sequence:
        return f"target {target.name} has neither a sequence nor an accession; give it one of them"
    if target.accession is not None and target.sequence:
        return f"target {target.name} has both a sequence and an accession; keep one of them"
    if target.sequence and target.sequence_type not in ("dna", "protein"):
        return (
            f"target {target.name}: the sequence type must be dna or protein,"
            f" not {target.sequence_type}"
        )
    return None
