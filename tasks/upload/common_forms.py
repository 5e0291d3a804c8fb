"""The forms in which nearly all variants are written, checked a whole column at once.

MAVE-HGVS's own parser takes some 30 microseconds for a variant, these expressions one. What they
do not accept is not refused for that: the parser has the last word, and words for what is wrong.
"""

import string

import polars as pl
from mavehgvs.variant import AA_3_TO_1

_POSITION = "[1-9][0-9]{0,8}"
_RESIDUE = f"(?:{'|'.join(AA_3_TO_1)})"
_NUCLEOTIDE_CHANGE = (
    rf"(?:{_POSITION}[ACGT]>[ACGT]|{_POSITION}(?:_{_POSITION})?(?:del|dup|delins[ACGT]+))"
)
_PROTEIN_CHANGE = (
    rf"(?:{_RESIDUE}{_POSITION}(?:{_RESIDUE}|=)"
    rf"|{_RESIDUE}{_POSITION}(?:_{_RESIDUE}{_POSITION})?(?:del|dup|delins{_RESIDUE}+))"
)
#: Of a change without what it makes of the place: `Gly12`, `Gly12_Tyr14`; `12`, `12_14`.
_PLACE = pl.col("change").str.strip_chars_end(string.ascii_letters + "=>")
_ENDS = _PLACE.str.split_exact("_", 1).struct
_PROTEIN_PLACE = {
    "residue": _PLACE.str.slice(0, 3),
    "start": _ENDS[0].str.slice(3).cast(pl.Int64),
    "end_residue": _ENDS[1].str.slice(0, 3),
    "end": _ENDS[1].str.slice(3).cast(pl.Int64),
}
_NUCLEOTIDE_PLACE = {
    "residue": pl.when(pl.col("change").str.contains(">", literal=True)).then(
        pl.col("change").str.slice(-3, 1)
    ),
    "start": _ENDS[0].cast(pl.Int64),
    "end_residue": pl.lit(None, dtype=pl.String),
    "end": _ENDS[1].cast(pl.Int64),
}


def surely_accepted(variants: pl.Series, prefixes: str, residues: pl.Series | None) -> pl.Series:
    """Which of the variants MAVE-HGVS accepts for a target of these `residues`, beyond doubt.

    `prefixes` are the letters that the column takes. `residues` are bases or, as variants write
    them, amino acids; None leaves the target unchecked.
    """
    is_protein = prefixes == "p"
    change = _PROTEIN_CHANGE if is_protein else _NUCLEOTIDE_CHANGE
    accepted = variants.str.contains(rf"^[{prefixes}]\.(?:{change}|\[{change}(?:;{change})+\])$")
    rows = accepted.arg_true()
    changes = (
        pl.DataFrame(
            {"row": rows, "change": variants.gather(rows).str.slice(2).str.strip_chars("[]")}
        )
        .with_columns(pl.col("change").str.split(";"))
        .explode("change")
    )
    places = changes.select("row", **(_PROTEIN_PLACE if is_protein else _NUCLEOTIDE_PLACE))
    row, start, end = places["row"], places["start"], places["end"]
    last = end.fill_null(start)
    fits = (start < end).fill_null(True) & (
        (row != row.shift()) | (start > last.shift())
    ).fill_null(True)
    if residues is not None:
        for residue, position in ((places["residue"], start), (places["end_residue"], end)):
            found = residues.gather(position - 1, null_on_oob=True)
            fits &= (residue == found).fill_null(residue.is_null())
        fits &= last <= len(residues)
    return accepted.scatter(row.filter(~fits), False)
