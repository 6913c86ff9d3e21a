"""The merge: which values are stored exactly, and what counts as a difference."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import psycopg
import pytest

from klaviyo_pipeline.klaviyo.escape import escape, unescape
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.tables import NotMigrated
from klaviyo_pipeline_tests.postgres.store import Store, day, figures, flow, minute

EDGE_CASE_TEXTS = {
    "emoji": "🎉 Grüße 你好 \u202eright to left",
    "control characters": "tab\tnew\nline\r\x01\x1f\x7f\\.\\N",
    "sql": "'; DROP TABLE flows; -- $$ %s %(x)s \" {}",
    "empty": "",
    "a megabyte": "x" * 1_000_000,
    "escaped NUL": escape("a\0b"),
    "word for null": "NULL",
}


@pytest.mark.parametrize("text", EDGE_CASE_TEXTS.values(), ids=EDGE_CASE_TEXTS.keys())
def test_any_text_is_read_as_it_was_written_in_columns_and_json(store: Store, text: str) -> None:
    row = flow("a", minute(0), text, raw={"name": text, "deep": [{text[:1000]: text}]})
    store.merge("flows", [row])
    assert store.rows("SELECT name, raw FROM flows") == [(text, row["raw"])]
    assert store.merge("flows", [{**row, "observed_at": minute(1)}]) == RowCounts()


def test_an_escaped_nul_reads_back_as_the_nul(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), escape("a\0b\ud83d"))])
    assert unescape(store.value("SELECT name FROM flows")) == "a\0b\ud83d"


def test_integers_beyond_64_bits_are_exact_in_json(store: Store) -> None:
    raw = {"big": 2**80 + 1, "negative": -(2**80) - 1, "small": 1}
    store.merge("flows", [flow("a", minute(0), raw=raw)])
    assert store.value("SELECT raw FROM flows") == raw


def test_json_nested_hundreds_deep_is_stored(store: Store) -> None:
    raw: dict[str, Any] = {}
    for _ in range(400):  # orjson alone stops at a depth of 254
        raw = {"in": raw}
    store.merge("flows", [flow("a", minute(0), raw=raw)])
    assert store.value("SELECT raw FROM flows") == raw


def test_json_of_every_kind_is_stored_and_a_missing_one_is_null(store: Store) -> None:
    documents: list[Any] = [{"a": None}, [1, "x"], "text", 5, False, None, float("nan"), pd.NA]
    rows = [
        {"id": str(place), "definition": value, "raw": {}, "observed_at": minute(0)}
        for place, value in enumerate(documents)
    ]
    store.merge("segments", rows)
    stored = store.rows("SELECT definition, definition IS NULL FROM segments ORDER BY id")
    assert [value for value, _ in stored] == [*documents[:5], None, None, None]
    assert [absent for _, absent in stored] == [False] * 5 + [True] * 3


def test_json_is_compared_by_value_not_by_text(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), raw={"a": 1, "b": [1.50, 2]})])
    before = store.versions("flows")
    assert store.merge("flows", [flow("a", minute(1), raw={"b": [1.5, 2.0], "a": 1.0})]) == RowCounts()
    assert store.versions("flows") == before
    assert store.merge("flows", [flow("a", minute(2), raw={"a": 1, "b": [2, 1.5]})]) == RowCounts(updated=1)


def test_nulls_are_equal_to_nulls_and_differ_from_values(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), None)])
    assert store.merge("flows", [flow("a", minute(1), None)]) == RowCounts()
    assert store.merge("flows", [flow("a", minute(2), "named")]) == RowCounts(updated=1)
    assert store.merge("flows", [flow("a", minute(3), None)]) == RowCounts(updated=1)
    assert [name for name, _, _ in store.history("a")] == [None, "named", None]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_every_kind_of_missing_value_is_null(store: Store, missing: object) -> None:
    store.merge("flows", [flow("a", minute(0), name=missing, raw={}, archived=missing, updated_at=missing)])  # type: ignore[arg-type]
    assert store.rows("SELECT name, archived, updated_at FROM flows") == [(None, None, None)]


def test_values_are_exact_whatever_their_scale(store: Store) -> None:
    exact = Decimal("12345678901234567890.123456789012345678")
    store.merge("flow_report", [figures("a", day(0), minute(0), exact)])
    assert store.value("SELECT delivered FROM flow_report") == exact
    store.merge("flow_report", [figures("b", day(0), minute(0), "1.50")])
    assert store.merge("flow_report", [figures("b", day(0), minute(1), "1.5")]) == RowCounts()


def test_times_keep_their_microseconds_and_their_moment(store: Store) -> None:
    moment = minute(0) + timedelta(microseconds=123457)
    typed = pd.DataFrame({"id": ["a"], "raw": [{}], "updated_at": [moment], "observed_at": [minute(0)]})
    typed["updated_at"] = typed["updated_at"].dt.tz_convert("America/New_York")
    store.merge("flows", typed)
    assert store.value("SELECT updated_at FROM flows") == moment


@pytest.fixture
def goods(store: Store) -> Store:
    """A table that a user created: names that need quotes, a scale, a generated column, no observation time."""
    store.run(
        """
        CREATE TYPE mood AS ENUM ('fine', 'bad');
        CREATE TABLE "Odd Goods" (
            "select" text, "The Id" int, "Price %" numeric(10, 2), pieces int, mood mood,
            code char(3), parts text[], "double" numeric GENERATED ALWAYS AS ("Price %" * 2) STORED,
            PRIMARY KEY ("The Id", "select")
        )
        """
    )
    return store


def good(id: int = 1, price: str = "1", **more: Any) -> dict[str, Any]:
    return {"select": "x", "The Id": id, "Price %": Decimal(price), **more}


def test_names_that_need_quotes_are_written(goods: Store) -> None:
    assert goods.merge("Odd Goods", [good(1), good(2)]) == RowCounts(inserted=2)
    assert goods.values('SELECT "The Id" FROM "Odd Goods" ORDER BY 1') == [1, 2]


def test_a_table_without_observation_times_takes_every_later_write(goods: Store) -> None:
    goods.merge("Odd Goods", [good(pieces=1)])
    assert goods.merge("Odd Goods", [good(pieces=2)]) == RowCounts(updated=1)
    before = goods.versions('"Odd Goods"')
    assert goods.merge("Odd Goods", [good(pieces=2)]) == RowCounts()
    assert goods.versions('"Odd Goods"') == before


def test_a_value_that_the_scale_rounds_is_written_only_once(goods: Store) -> None:
    goods.merge("Odd Goods", [good(price="1.005")])
    assert goods.value('SELECT "Price %" FROM "Odd Goods"') == Decimal("1.01")
    assert goods.merge("Odd Goods", [good(price="1.005")]) == RowCounts()
    assert goods.values('SELECT xmax::text FROM "Odd Goods"') == ["0"], "the row was locked"


def test_a_generated_column_is_computed_by_the_database(goods: Store) -> None:
    goods.merge("Odd Goods", [good(price="2.50")])
    assert goods.value('SELECT "double" FROM "Odd Goods"') == 5


def test_types_without_a_binary_form_are_written_too(goods: Store) -> None:
    row = good(mood="bad", code="ab", parts=["tab\t", None, "\\N", "Ü"], pieces=3, price="0.10")
    assert goods.merge("Odd Goods", [row, good(2)]) == RowCounts(inserted=2)
    query = 'SELECT mood, code, parts, pieces, "Price %" FROM "Odd Goods" ORDER BY "The Id"'
    assert goods.rows(query)[0] == ("bad", "ab ", ["tab\t", None, "\\N", "Ü"], 3, Decimal("0.10"))
    assert goods.merge("Odd Goods", [row, good(2)]) == RowCounts()


def test_pandas_own_types_are_written_as_the_columns_type(goods: Store) -> None:
    goods.run("CREATE TABLE plain (id bigint PRIMARY KEY, pieces int, price numeric, day date, share float8)")
    typed = pd.DataFrame(
        {
            "id": pd.Series([1, 2], dtype="Int64"),
            "pieces": [3, None],
            "price": [0.1, None],
            "day": pd.to_datetime(pd.Series(["2025-03-01", None])),
            "share": [0.5, 1],
        }
    )
    assert str(typed["pieces"].dtype) == "float64"
    goods.merge("plain", typed)
    assert goods.rows("SELECT * FROM plain ORDER BY id") == [
        (1, 3, Decimal("0.1"), date(2025, 3, 1), 0.5),
        (2, None, None, None, 1.0),
    ]


def test_a_fraction_is_refused_in_an_integer_column(goods: Store) -> None:
    with pytest.raises((TypeError, psycopg.DataError)):
        goods.merge("Odd Goods", [good(pieces=1.5)])
    assert goods.rows('SELECT * FROM "Odd Goods"') == []


def test_a_table_of_keys_alone_is_written_once(store: Store) -> None:
    store.run("CREATE TABLE pairs (a text, b text, PRIMARY KEY (a, b))")
    rows = [{"a": "x", "b": "y"}, {"a": "x", "b": "z"}]
    assert store.merge("pairs", rows) == RowCounts(inserted=2)
    assert store.merge("pairs", rows) == RowCounts()


def test_a_missing_table_is_reported_with_the_remedy(store: Store) -> None:
    with pytest.raises(NotMigrated, match=r'table "order"\."nowhere" does not exist; run `klaviyo-pipeline migrate`'):
        store.merge("nowhere", [{"id": 1}])


def test_a_table_without_a_primary_key_is_refused(store: Store) -> None:
    store.run("CREATE TABLE loose (id int)")
    with pytest.raises(ValueError, match="has no primary key"):
        store.merge("loose", [{"id": 1}])
