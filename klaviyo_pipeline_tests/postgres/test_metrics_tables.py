"""Metrics: sums over messages, rates from sums, exact to the cent."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from klaviyo_pipeline.catalog import FLOW_METRICS
from klaviyo_pipeline.postgres.metrics_tables import Metrics, flow_metrics_between
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, day, figures, flow, minute, synced, window

FLOWS = Metrics(SLUG, FLOW_METRICS)


def compute(store: Store, first: int = 0, last: int = 9) -> list[dict[str, Any]]:
    """Compute the metrics of these days, write and return them."""
    with store.engine.connect() as connection:
        rows = FLOWS.compute(connection, day(first), day(last))
    if rows:
        store.merge("flow_metrics", rows)
    return rows


def report(store: Store, *rows: dict[str, Any]) -> None:
    store.merge("flow_report", rows)


def message(flow_id: str, id: str, on: int = 0, channel: str = "email", **counts: Any) -> dict[str, Any]:
    """A report row: a message's counts on a day."""
    exact = {name: None if count is None else Decimal(str(count)) for name, count in counts.items()}
    key = {"flow_message_id": id, "send_channel": channel, "conversion_metric_id": "metric"}
    return {**figures(flow_id, day(on), minute(0)), "delivered": None, **key, **exact}


def metrics(store: Store, *columns: str) -> list[tuple[Any, ...]]:
    return store.rows(f"SELECT {', '.join(columns)} FROM flow_metrics ORDER BY flow_id, date")


def test_counts_are_summed_over_the_messages_and_channels_of_a_day(store: Store) -> None:
    report(
        store,
        message("a", "M1", recipients=10, delivered=9, opens=5, conversion_value="0.10"),
        message("a", "M1", channel="sms", recipients=1, delivered=1, conversion_value="0.20"),
        message("a", "M2", recipients=100, delivered=90, opens=50, conversion_value="1000000000000.01"),
        message("a", "M1", on=1, recipients=7),
        message("b", "M3", recipients=3),
    )
    assert len(compute(store)) == 3
    assert metrics(store, "flow_id", "date", "messages", "recipients", "delivered", "opens", "conversion_value") == [
        ("a", day(0), 3, 111, 100, 55, Decimal("1000000000000.31")),
        ("a", day(1), 1, 7, None, None, None),
        ("b", day(0), 1, 3, None, None, None),
    ]


def test_only_the_requested_days_are_computed(store: Store) -> None:
    report(store, *(message("a", "M1", on=number, recipients=1) for number in range(5)))
    assert [row["date"] for row in compute(store, 1, 3)] == [day(1), day(2), day(3)]


RATES = {
    "open_rate": "opens_unique / delivered",
    "click_rate": "clicks_unique / delivered",
    "click_to_open_rate": "clicks_unique / opens_unique",
    "conversion_rate": "conversion_uniques / delivered",
    "revenue_per_recipient": "conversion_value / delivered",
    "average_order_value": "conversion_value / conversions",
    "bounce_rate": "bounced / recipients",
    "delivery_rate": "delivered / recipients",
    "unsubscribe_rate": "unsubscribe_uniques / delivered",
    "spam_complaint_rate": "spam_complaints / delivered",
}
FIRST: dict[str, Any] = {
    "recipients": 200, "delivered": 160, "opens_unique": 80, "clicks_unique": 20, "conversions": 8, "bounced": 40,
    "conversion_uniques": 5, "conversion_value": "99.99", "unsubscribe_uniques": 4, "spam_complaints": 1,
}  # fmt: skip
SECOND: dict[str, Any] = {
    "recipients": 50, "delivered": 40, "opens_unique": 10, "clicks_unique": 5, "conversions": 2, "bounced": 10,
    "conversion_uniques": 0, "conversion_value": "0.01", "unsubscribe_uniques": 1, "spam_complaints": 1,
}  # fmt: skip


def rate(name: str, counted: Sequence[dict[str, Any]]) -> Decimal:
    """The expected rate, from the sums of these counts."""
    above, below = RATES[name].split(" / ")
    sums = [sum((Decimal(str(counts[of])) for counts in counted), Decimal(0)) for of in (above, below)]
    return sums[0] / sums[1]


@pytest.mark.parametrize("name", RATES)
def test_a_rate_of_a_day_is_computed_from_the_sums(store: Store, name: str) -> None:
    report(store, message("a", "M1", **FIRST), message("a", "M2", **SECOND))
    compute(store)
    [(computed,)] = metrics(store, name)
    assert computed == pytest.approx(rate(name, [FIRST, SECOND]), abs=Decimal("1e-15"))


@pytest.mark.parametrize("name", RATES)
def test_a_rate_whose_divisor_is_zero_or_unknown_is_null(store: Store, name: str) -> None:
    below = RATES[name].split(" / ")[1]
    report(store, message("zero", "M1", **{**FIRST, below: 0}), message("none", "M1", **{**FIRST, below: None}))
    compute(store)
    assert metrics(store, name) == [(None,), (None,)]
    with store.engine.connect() as connection:
        assert [row[name] for row in flow_metrics_between(connection, SLUG, day(0), day(0))] == [None, None]


@pytest.mark.parametrize("name", RATES)
def test_a_rate_of_several_days_is_computed_from_the_sums(store: Store, name: str) -> None:
    report(store, message("a", "M1", 0, **FIRST), message("a", "M1", 1, **SECOND), message("a", "M1", 2, **FIRST))
    compute(store)
    with store.engine.connect() as connection:
        [row] = flow_metrics_between(connection, SLUG, day(0), day(1))
    assert row[name] == pytest.approx(rate(name, [FIRST, SECOND]), abs=Decimal("1e-15"))


def test_a_range_sums_its_days_to_the_cent_both_ends_included(store: Store) -> None:
    report(store, *(message("a", "M1", on=n, recipients=1, conversion_value="0.10") for n in range(5)))
    compute(store)
    with store.engine.connect() as connection:
        [row] = flow_metrics_between(connection, SLUG, day(1), day(3))
    assert (row["days"], row["recipients"], row["conversion_value"]) == (3, 3, Decimal("0.30"))


def test_the_flow_with_the_most_revenue_comes_first_and_one_without_last(store: Store) -> None:
    worth = {"a": "1", "b": None, "c": "5", "d": "1"}
    report(store, *(message(id, "M1", conversion_value=value) for id, value in worth.items()))
    compute(store)
    with store.engine.connect() as connection:
        assert [row["flow_id"] for row in flow_metrics_between(connection, SLUG, day(0), day(0))] == list("cadb")
        one = list(flow_metrics_between(connection, SLUG, day(0), day(0), flow_id="b"))
        none = list(flow_metrics_between(connection, SLUG, day(1), day(9)))
    assert ([row["flow_id"] for row in one], none) == (["b"], [])


def test_a_range_of_one_day_has_the_rates_of_that_day(store: Store) -> None:
    report(store, message("a", "M1", **FIRST), message("a", "M2", **SECOND))
    compute(store)
    [stored] = metrics(store, *RATES)
    with store.engine.connect() as connection:
        [row] = flow_metrics_between(connection, SLUG, day(0), day(0))
    assert tuple(row[name] for name in RATES) == stored


def test_a_row_repeats_the_flows_latest_state_and_an_unknown_flow_stays_nameless(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0), "Welcome", trigger_type="Metric")])
    report(store, message("a", "M1", recipients=1), message("unknown", "M1", recipients=1))
    compute(store)
    assert metrics(store, "flow_name", "flow_status", "trigger_type", "conversion_metric_id") == [
        ("Welcome", "live", "Metric", "metric"),
        (None, None, None, "metric"),
    ]


def test_names_are_refreshed_where_they_differ_and_nowhere_else(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0)), flow("b", minute(0))])
    report(store, *(message(id, "M1", on=n, recipients=1) for id in "ab" for n in range(2)))
    compute(store)
    store.merge("flows", [flow("a", minute(1), "Renamed"), flow("b", minute(1), status="live")])
    kept = "SELECT ctid::text FROM flow_metrics WHERE flow_id = 'b' ORDER BY 1"
    before = store.values(kept)
    with store.engine.begin() as connection:
        assert FLOWS.refresh_names(connection) == 2
        assert FLOWS.refresh_names(connection) == 0
    assert [name for (name,) in metrics(store, "flow_name")] == ["Renamed", "Renamed", "Welcome", "Welcome"]
    assert store.values(kept) == before


def test_computing_again_writes_nothing(store: Store) -> None:
    store.merge("flows", [flow("a", minute(0))])
    report(store, message("a", "M1", **FIRST))
    compute(store)
    before = store.versions("flow_metrics")
    compute(store)
    assert store.versions("flow_metrics") == before


def stale(store: Store) -> set[int]:
    with store.engine.connect() as connection:
        found = FLOWS.stale(connection, window(0).start, window(9).start)
    return {(start - window(0).start).days for start in found}


def test_days_without_metrics_or_with_a_newer_report_are_stale(store: Store) -> None:
    store.record("flow_report", *(synced(number, minute(5)) for number in range(4)))
    store.record("flow_metrics", synced(0, minute(5)), synced(1, minute(4)), synced(9, minute(5)))
    store.record_failed("flow_report", 7)
    assert stale(store) == {1, 2, 3}


def test_a_failed_attempt_at_metrics_does_not_make_them_look_fresh(store: Store) -> None:
    store.record("flow_report", synced(0, minute(1)))
    store.record("flow_metrics", synced(0, minute(1)))
    store.record("flow_report", synced(0, minute(5)))
    store.record_failed("flow_metrics", 0)
    assert stale(store) == {0}


def test_days_outside_the_range_are_not_stale(store: Store) -> None:
    store.record("flow_report", synced(10, minute(5)), synced(9, minute(5)))
    assert stale(store) == {9}
