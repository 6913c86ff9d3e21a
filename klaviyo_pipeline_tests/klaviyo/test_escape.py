"""The escape of characters that jsonb cannot store."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klaviyo_pipeline.klaviyo.escape import escape, escape_json, may_need_escape, unescape

REPEATABLE = settings(derandomize=True, deadline=None)

# The characters that matter to the escape, so that they are often next to each other.
PIECES = ("␛", "␛␛", "u0000", "uD800", "u", "\0", "\ud83d", "\ude00", "\U0001f600", "x")
TRICKY = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
ANY = st.text(st.characters(exclude_categories=()), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3),
    max_leaves=8,
)


@REPEATABLE
@given(TRICKY | ANY)
def test_unescape_reverses_escape(text: str) -> None:
    assert unescape(escape(text)) == text


@REPEATABLE
@given(TRICKY | ANY)
def test_an_escaped_text_can_be_stored(text: str) -> None:
    escaped = escape(text)
    assert "\0" not in escaped
    escaped.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\0b", "a␛u0000b"),
        ("\ud83d", "␛uD83D"),
        ("\U0001f600", "\U0001f600"),
        ("␛", "␛"),
        ("␛u12", "␛u12"),
        ("␛ud800", "␛ud800"),
        ("␛u0000", "␛␛u0000"),
        ("␛␛u00FF", "␛␛␛␛u00FF"),
        ("␛\0", "␛␛␛u0000"),
        ("␛␛\0", "␛␛␛␛␛u0000"),
        ("\0u0041", "␛u0000u0041"),
    ],
)
def test_the_escape_is_the_documented_one(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@REPEATABLE
@given(TRICKY, TRICKY)
def test_two_texts_never_share_an_escape(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


def test_a_value_with_nothing_to_escape_is_the_same_object() -> None:
    clean = {"a": ["b", {"c": "␛ d", "e": 1.5}], "f": None}
    walked, count = escape_json(clean)
    assert walked is clean
    assert count == 0
    assert escape(clean_text := "plain ␛ text") is clean_text


def test_keys_and_values_are_escaped_and_counted() -> None:
    walked, count = escape_json({"a\0": ["\ud800\0", {"k": "␛u0000"}], "b": True})
    assert walked == {"a␛u0000": ["␛uD800␛u0000", {"k": "␛␛u0000"}], "b": True}
    assert count == 3


def test_escaping_does_not_change_its_input() -> None:
    given_value = {"a": ["\0"]}
    escape_json(given_value)
    assert given_value == {"a": ["\0"]}


@REPEATABLE
@given(JSON)
def test_the_quick_search_finds_every_value_that_needs_an_escape(value: object) -> None:
    text = json.dumps(value)
    decoded = json.loads(text)
    assert may_need_escape(text) or escape_json(decoded)[0] is decoded


@pytest.mark.parametrize("text", ['"\\u0000"', '"\\ud83d"', '"\\uDFFF"', '"␛"', '"\\u241B"', '"\\u241b"'])
def test_every_json_spelling_of_a_suspect_is_found(text: str) -> None:
    assert may_need_escape(text)


@pytest.mark.parametrize("text", ['"plain"', '"\\u00e9"', '"\\ud7ff"', '"\\ue000"', '"\\n"'])
def test_ordinary_text_is_no_suspect(text: str) -> None:
    assert not may_need_escape(text)
