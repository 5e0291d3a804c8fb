"""Uploaded bytes as a table of text, and what is refused before any rule is looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from tasks.upload.reading import Limits, read_table

# A table's text below its names, cells and ends of lines in any order.
below_names = st.lists(
    st.sampled_from(["1", "x y", " ", "NA", "é", "#", "'", ",", ",", "\n", "\n", "\r\n", "\r"]),
    max_size=24,
).map("".join)
# The same, but that every line has as many cells as there are names.
regular = st.lists(
    st.tuples(*[st.sampled_from(["", "1", " x ", "NaN", "é" * 9, "x\ry"])] * 3).map(",".join),
    min_size=1,
).map("\n".join)


def refusal(content: bytes) -> StepError:
    with pytest.raises(StepError) as caught:
        read_table(content, "f.csv")
    assert caught.value.category is FailureCategory.VALIDATION_ERROR
    assert caught.value.details
    return caught.value


def test_cells_stay_text_as_written_and_null_tokens_become_null() -> None:
    table = read_table(
        b"hgvs_pro,score,note\r\np.=,007,NA\r\np.(=),1e5,n/a\r\n"
        b'p.Gly1=,None," a ""b"",\nc"\r\n,#N/A,  \r\n"",NaN,False\r\n',
        "f.csv",
    )
    assert table.to_dict(as_series=False) == {
        "hgvs_pro": ["p.=", "p.(=)", "p.Gly1=", None, None],
        "score": ["007", "1e5", None, None, None],
        "note": [None, None, ' a "b",\nc', None, "False"],
    }


def test_names_are_cleaned_and_only_standard_ones_lose_their_capitals() -> None:
    table = read_table(b"\xef\xbb\xbfHGVS_Pro, 'Score' ,\" SD \",sd2\np.=,1,2,3\n", "f.csv")
    assert table.columns == ["hgvs_pro", "score", "SD", "sd2"]


def test_blank_lines_at_the_end_are_dropped_and_others_are_rows_without_a_value() -> None:
    table = read_table(b"hgvs_pro,score\np.=,1\n\np.(=),2\np.Gly1=,3\n\n  \n\n", "f.csv")
    assert table.rows() == [("p.=", "1"), (None, None), ("p.(=)", "2"), ("p.Gly1=", "3")]


def test_rows_beyond_one_block_arrive_complete_and_in_order() -> None:
    rows = 120_001
    content = "hgvs_pro,score\n" + "".join(f"v{n},{n}\n" for n in range(rows))
    table = read_table(content.encode(), "f.csv")
    assert table["score"].to_list() == [str(n) for n in range(rows)]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "f.csv: the file is empty"),
        (b" \r\n\n", "f.csv: the file is empty"),
        (b"hgvs_pro,score\n", "f.csv: there is no row"),
        (b"hgvs_pro,score\n\n\n", "f.csv: there is no row"),
        (b"hgvs_pro,score\np.=,1\np.\xe9,2\n", "f.csv, line 3: byte 23 is not UTF-8"),
        (b"hgvs_pro,score\np.=,\x00\n", "f.csv, line 2: byte 19 is a NUL byte"),
        (b'hgvs_pro,score\n"a\nb",1\np.=,"2\np.=,3\n', "f.csv, line 4: not valid CSV"),
        (b'hgvs_pro,score\np.="x"y,1\n"p.="x,2\n', "f.csv, line 3: not valid CSV"),
        (b"hgvs_pro;score\np.=;1\n", "f.csv, line 1: the first line must hold the names"),
        (b"hgvs_pro,score,\np.=,1,2\n", "f.csv, line 1: column 3 has no name"),
        (b"hgvs_pro,SD,score,sd\np.=,1,2,3\n", "f.csv, line 1: columns 2 and 4 are both named sd"),
        (b"HGVS_PRO,hgvs_pro,score\np.=,p.=,2\n", "columns 1 and 2 are both named hgvs_pro"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(content: bytes, place: str) -> None:
    assert place in str(refusal(content))


def test_every_ragged_line_is_named() -> None:
    error = refusal(b'hgvs_pro,score\n"p.=\n",1\np.=,1,2\np.=\np.=,2\n')
    assert error.details == [
        "f.csv, line 4: 3 cells, but 2 columns",
        "f.csv, line 5: 1 cells, but 2 columns",
    ]
    assert "2 such lines" in str(error)


@given(below_names | regular, st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_a_file_without_quotes_is_read_as_one_with_quotes(below: str, end: str) -> None:
    limits = Limits(rows=4, cell_characters=8)

    def outcome(header: str) -> object:
        content = f"{header}\n{below}{end}".encode()
        try:
            return read_table(content, "f.csv", limits).to_dict(as_series=False)
        except StepError as error:
            return error.details

    assert outcome("a,b,c") == outcome('"a",b,c')
