"""However a page is written, it is read as the standard parser reads it; only what must be is walked for escapes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klaviyo_pipeline.klaviyo.answers import read_document
from klaviyo_pipeline.klaviyo.nesting import MOST_LEVELS, cut_at

# Strings that look like the ends of strings, like numbers that are too long, like escapes.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.text('"\\[]{}ue0d8', max_size=8),
    st.sampled_from([", 1e999", ": 12345678901234567890", "\ud83d", "\ud83d\ude00", "\\ud83d", "\x00", "␛"]),
)
NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 9007199254740993, 2**63, 2**64]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def answered(text: str) -> httpx.Response:
    return httpx.Response(200, content=text.encode("utf-8"))


@settings(max_examples=300, deadline=None)
@given(data=st.lists(VALUES, max_size=3), indent=st.sampled_from([None, 1]))
def test_a_page_is_read_as_the_standard_parser_reads_it(data: list[Any], indent: int | None) -> None:
    text = json.dumps({"data": data}, indent=indent)
    document = read_document(answered(text), list, exact=False)
    # By their texts: 1 is 1.0 to Python, and no NaN is equal to itself.
    assert repr(document.body) == repr(json.loads(text))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1E+400", "[1e400]"])
def test_a_number_that_no_float_contains_stays_as_its_text(number: str) -> None:
    document = read_document(answered(f'{{"data": [{number}]}}'), list, exact=False)
    assert json.dumps(document.body).count(number.strip("[]")) == 1


@pytest.mark.parametrize("number", [2**64, 10**19, -(10**20), 10**400])
def test_a_whole_number_is_never_rounded(number: int) -> None:
    assert read_document(answered(f'{{"data": [{number}]}}'), list, exact=False).body == {"data": [number]}


def test_values_of_a_report_are_read_digit_for_digit() -> None:
    document = read_document(answered('{"data": [0.10, 1234567890.12345678901]}'), list, exact=True)
    assert repr(document.body) == repr({"data": [Decimal("0.10"), Decimal("1234567890.12345678901")]})


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (r'"\ud83d\ude00"', True),
        (r'"\ud83d"', False),
        (r'"\ude00\ud83d"', False),
        (r'"\\ud83d\ude00"', False),
        (r'"\\ud83d"', True),
        (r'"\u0000"', False),
        (r'"\u241b"', False),
        (r'"\u241B"', False),
        (r'"\uD83D"', False),
        ('"␛"', False),
        ('"plain"', True),
    ],
)
def test_a_page_is_walked_for_escapes_only_if_it_contains_what_needs_one(text: str, clean: bool) -> None:
    document = read_document(answered(f'{{"data": [{text}]}}'), list, exact=False)
    assert document.clean is clean
    assert document.body == {"data": [json.loads(text)]}


@settings(max_examples=300, deadline=None)
@given(value=VALUES, levels=st.integers(1, 4), ascii=st.booleans())
def test_text_is_cut_exactly_where_it_is_deeper(value: Any, levels: int, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    assert (cut_at(text, levels) is text) is (depth(value) <= levels)


def test_a_depth_at_the_bound_is_left_as_it_is() -> None:
    text = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert cut_at(text, MOST_LEVELS) is text
    assert cut_at(f"[{text}]", MOST_LEVELS) != f"[{text}]"


@pytest.mark.parametrize("before", ['"', "\\", '\\"', '"\\', "[", "]", '["'])
def test_depth_behind_a_string_is_counted_whatever_the_string_contains(before: str) -> None:
    text = json.dumps([before, [[before]]])
    assert cut_at(text, 3) is text
    assert json.loads(cut_at(text, 2)) == [before, [f"␛json:[{json.dumps(before)}]"]]


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0
