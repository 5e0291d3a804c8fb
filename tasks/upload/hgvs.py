"""The HGVS columns of an uploaded table: form, prefixes, and agreement with the targets."""

import re
from collections import defaultdict
from collections.abc import Collection
from operator import itemgetter
from typing import Any

import polars as pl
from mavehgvs import MaveHgvsParseError, Variant
from mavehgvs.variant import AA_3_TO_1

from mavedb_audit.errors import StepError
from tasks.upload.common_forms import surely_accepted
from tasks.upload.table import Table
from tasks.upload.targets import Target, Targets

PREFIXES = {"hgvs_nt": "cngmo", "hgvs_splice": "cn", "hgvs_pro": "p"}
_PREFIX = re.compile(r"([a-z])\.")
_AA_1_TO_3 = {one: three for three, one in AA_3_TO_1.items()}


def check_hgvs_column(table: Table, column: str, targets: Targets) -> str | None:
    """Note every variant of the column that cannot be accepted.

    Returns the prefix letter of the column; None where it has none or more than one.
    """
    if column == "hgvs_nt" and not targets.accession_based and not _has_dna(targets):
        table.refuse("column hgvs_nt holds variants, but no target is DNA; leave hgvs_nt empty")
        return None
    cells = table.frame[column]
    accepted = _surely_accepted(cells, column, targets)
    undecided = cells.is_not_null().scatter(accepted["row"], False)
    left = pl.DataFrame({"cell": cells}).with_row_index("row").filter(undecided)
    left = left.unique("cell", keep="first", maintain_order=True)
    problems: dict[str, str] = {}
    variants_of: defaultdict[str, set[str]] = defaultdict(set)
    first_rows: dict[str, int] = {}
    for row, cell in left.iter_rows():
        for written in cell.split(" "):
            try:
                name, variant = _split(written, targets)
                prefix = _prefix(variant, column)
            except ValueError as error:
                problems[written] = str(error)
            else:
                first_rows.setdefault(prefix, row)
                variants_of[name].add(variant)
    for name, variants in variants_of.items():
        target = targets.by_name[name]
        if targets.accession_based:
            refused = validate_accession_variants(name, variants)
        else:
            refused = validate_sequence_variants(target, column, variants)
        for variant, problem in refused.items():
            problems[f"{name}:{variant}" if targets.qualified else variant] = problem
    if problems:
        _refuse_cells(table, column, left["cell"].to_list(), problems)
    for prefix, row in accepted.group_by("prefix").agg(pl.col("row").min()).iter_rows():
        first_rows[prefix] = min(row, first_rows.get(prefix, row))
    if len(first_rows) > 1:
        found = ", ".join(
            f"{prefix}. (first on line {table.lines[row]})"
            for prefix, row in sorted(first_rows.items(), key=itemgetter(1))
        )
        table.refuse(f"column {column} mixes the prefixes {found}; use one in the whole column")
        return None
    return next(iter(first_rows), None)


def prefix_combination_problem(
    nt: str | None, splice: str | None, pro: str | None, *, accession_based: bool
) -> str | None:
    """What is wrong with the columns' prefixes taken together, None being an empty column."""
    if splice is not None:
        wanted = "c" if pro else "n"
        if nt is None or nt not in "gmo" or splice != wanted:
            return (
                f"hgvs_splice {'with' if pro else 'without'} hgvs_pro must be written with"
                f" {wanted}. beside an hgvs_nt written with g., m. or o.; found {splice}. beside "
                + (f"{nt}." if nt else "an empty hgvs_nt")
            )
    elif nt is not None and pro is not None and nt != "c":
        return f"hgvs_nt beside hgvs_pro must be written with c., not {nt}."
    elif nt is not None and pro is None and not accession_based and nt != "n":
        return (
            f"hgvs_nt alone must be written with n., not {nt}., for a target given by its"
            " sequence; add hgvs_pro or write the variants with n."
        )
    return None


def validate_sequence_variants(
    target: Target, column: str, variants: Collection[str]
) -> dict[str, str]:
    """The problem of each variant that MAVE-HGVS or the target's sequence refuses."""
    sequence: str | None = None
    if column == "hgvs_pro":
        sequence = target.amino_acids()
    elif column == "hgvs_nt":
        sequence = target.nucleotides()
        if sequence is None:
            problem = f"names the protein target {target.name}; hgvs_nt needs a DNA target"
            return dict.fromkeys(variants, problem)
    problems: dict[str, str] = {}
    for variant in variants:
        try:
            _parsed(variant, sequence)
        # A position of thousands of digits is a ValueError of int().
        except (MaveHgvsParseError, ValueError) as error:
            problems[variant] = _syntax_problem(variant) or (
                f"does not match the target sequence {target.label or target.name}"
                f" ({_mismatch(variant, sequence or '') or error}); correct the variant or the"
                " target"
            )
    return problems


def validate_accession_variants(_accession: str, variants: Collection[str]) -> dict[str, str]:
    """The problem of each variant that MAVE-HGVS refuses.

    Agreement with the accession's own sequence is not checked: that needs transcript data.
    """
    return {variant: problem for variant in variants if (problem := _syntax_problem(variant))}


def _surely_accepted(cells: pl.Series, column: str, targets: Targets) -> pl.DataFrame:
    """The rows whose cell is one variant in a common form, and that variant's prefix."""
    accepted = [pl.DataFrame(schema={"row": pl.UInt32, "prefix": pl.String})]
    for name, target in targets.by_name.items():
        if not targets.qualified:
            rows = cells.is_not_null().arg_true()
            variants = cells.gather(rows)
        elif " " in name or ":" in name:
            continue
        else:
            rows = cells.str.starts_with(f"{name}:").arg_true()
            variants = cells.gather(rows).str.strip_prefix(f"{name}:")
        residues = None if targets.accession_based else _residues(target, column)
        frame = pl.DataFrame({"row": rows, "prefix": variants.str.slice(0, 1)})
        accepted.append(frame.filter(surely_accepted(variants, PREFIXES[column], residues)))
    return pl.concat(accepted)


def _residues(target: Target, column: str) -> pl.Series | None:
    """What the column's variants must agree with, if anything; empty where no variant can."""
    if column == "hgvs_splice":
        return None
    if column == "hgvs_nt":
        return pl.Series(list(target.nucleotides() or ""), dtype=pl.String)
    try:
        acids = target.amino_acids()
    except StepError:
        acids = ""
    return pl.Series([_AA_1_TO_3.get(acid) for acid in acids], dtype=pl.String)


def _has_dna(targets: Targets) -> bool:
    return any(target.nucleotides() for target in targets.by_name.values())


def _split(written: str, targets: Targets) -> tuple[str, str]:
    """The target's name and the variant; ValueError says what is wrong."""
    if not written:
        raise ValueError("has a blank too many; separate variants by single blanks")
    name, colon, variant = written.rpartition(":")
    if not targets.qualified:
        if colon:
            raise ValueError("names a target; with one target, leave out what is before the colon")
        return next(iter(targets.by_name)), written
    kind = "accession" if targets.accession_based else "label"
    if not colon or ":" in name:
        raise ValueError(f"must be written {kind}:variant, with one colon")
    if name not in targets.by_name:
        raise ValueError(
            f"names {name or 'no target'}; the score set's targets are {', '.join(targets.by_name)}"
        )
    return name, variant


def _prefix(variant: str, column: str) -> str:
    match = _PREFIX.match(variant)
    if match is None:
        raise ValueError(_not_valid("it has no prefix such as c. or p."))
    if match[1] not in PREFIXES[column]:
        allowed = " ".join(f"{prefix}." for prefix in PREFIXES[column])
        raise ValueError(f"has the prefix {match[1]}., but column {column} takes {allowed}")
    return match[1]


def _parsed(variant: str, sequence: str | None = None) -> Any:
    try:
        return Variant(variant, targetseq=sequence)
    except AttributeError as error:  # it compares a range to a position in place of it
        raise MaveHgvsParseError("multi-variants not in sorted order") from error


def _syntax_problem(variant: str) -> str | None:
    try:
        _parsed(variant)
    except (MaveHgvsParseError, ValueError) as error:
        return _not_valid(str(error))
    return None


def _not_valid(reason: str) -> str:
    why = "" if reason == "failed regular expression validation" else f" ({reason})"
    return (
        f"is not valid MAVE-HGVS{why}; write it in a form that"
        " https://www.mavedb.org/docs/mavehgvs lists"
    )


def _mismatch(variant: str, sequence: str) -> str | None:
    """Where the variant and the sequence first disagree."""
    for _, place, change in _parsed(variant).variant_tuples():
        for position in place if isinstance(place, tuple) else (place,):
            if position is None or position.is_extended():
                continue
            number = position.position
            if number > len(sequence):
                return f"position {number} is beyond its end, {len(sequence)}"
            found = sequence[number - 1]
            if _expected(position, change) not in (None, found):
                residue = _AA_1_TO_3.get(found, found) if position.amino_acid else found
                return f"it has {residue} at position {number}"
    return None


def _expected(position: Any, change: Any) -> str | None:
    """The base or amino acid that the variant states for the position, if it states one."""
    if position.amino_acid is not None:
        return str(AA_3_TO_1[position.amino_acid])
    return change[0] if isinstance(change, tuple) else None


def _refuse_cells(table: Table, column: str, cells: list[str], problems: dict[str, str]) -> None:
    refused = {
        cell: "; ".join(
            f"{written} {problems[written]}".lstrip()
            for written in cell.split(" ")
            if written in problems
        )
        for cell in cells
        if any(written in problems for written in cell.split(" "))
    }
    table.refuse_cells(column, table.frame[column].is_in(list(refused)), lambda cell: refused[cell])
