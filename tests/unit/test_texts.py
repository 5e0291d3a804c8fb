"""Text that a service may send and PostgreSQL would refuse."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavedb_audit.texts import json_text, storable


def test_a_nul_and_half_a_character_are_replaced() -> None:
    assert storable("a\x00b") == "a\ufffdb"
    assert storable("a\ud800b") == "a?b"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a": "x\x00y"}, {"a": "x\ufffdy"}),
        ({"a": "x\\\x00"}, {"a": "x\\\ufffd"}),
        ({"a": "the letters \\u0000"}, {"a": "the letters \\u0000"}),
        ({"a": "the letters \\\\u0000"}, {"a": "the letters \\\\u0000"}),
        ({"a\x00": [1.5, None, "é"]}, {"a\ufffd": [1.5, None, "é"]}),
        ({"a": "b\ud800", "c\udfff": 1}, {"a": "b?", "c?": 1}),
        ({"a": "\ud800 and \x00"}, {"a": "? and \ufffd"}),
        ([2**64, -(2**70), 1e300, 0.1], [2**64, -(2**70), 1e300, 0.1]),
    ],
)
def test_json_keeps_all_but_what_postgresql_cannot_hold(value: object, kept: object) -> None:
    assert json.loads(json_text(value)) == kept


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_of_any_text_has_no_nul_and_no_lone_surrogate(value: object) -> None:
    text = json_text(value)
    text.encode()
    assert "\x00" not in json.dumps(json.loads(text), ensure_ascii=False).replace("\\u0000", "\x00")
