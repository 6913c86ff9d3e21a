"""Flows and campaigns that went quiet, as found in Postgres."""

from __future__ import annotations

from datetime import timedelta

import pytest

from klaviyo_pipeline.catalog import FLOW_METRICS
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.reporting.quiet_objects import QuietObject, quiet_metrics, unsent_campaigns
from klaviyo_pipeline_tests.postgres.store import FIRST_DAY, NOON, SLUG, day, flow, synced, window
from klaviyo_pipeline_tests.reporting.books import Books

DAYS = 60
BREAK = 57
"""Three days before the last one."""


@pytest.fixture
def sends(books: Books) -> Books:
    """Flows with sends on each day: one stops, one no longer converts, the opens of one fall, and others are fine."""
    names = {"F1": "stops", "F2": "broken tracking", "F3": "opens fall", "F4": "well", "F5": "draft", "F6": "seldom"}
    books.store.merge(
        "flows",
        [flow(id, NOON, name, status="draft" if id == "F5" else "live") for id, name in names.items()],
    )
    books.store.run(
        """
        INSERT INTO flow_metrics
            (flow_id, date, messages, delivered, conversions, opens_unique, clicks_unique, observed_at)
        SELECT id, CAST(:first AS date) + n, 1, 100 + n % 7,
            CASE WHEN id = 'F2' AND n >= :break THEN 0 ELSE 12 + n % 3 END,
            CASE WHEN id = 'F3' AND n >= :break + 1 THEN 4 ELSE 40 + n % 5 END, 9, now()
        FROM flows, generate_series(0, :days - 1) AS n
        WHERE CASE id WHEN 'F1' THEN n < :break WHEN 'F5' THEN n < :break WHEN 'F6' THEN n % 9 = 0 ELSE true END
        """,
        first=FIRST_DAY,
        days=DAYS,
        **{"break": BREAK},
    )
    books.store.record(
        "flow_metrics", *(synced(number, window(number).end + timedelta(hours=1)) for number in range(DAYS))
    )
    return books


def found(books: Books) -> dict[str, QuietObject]:
    with snapshot(books.store.engine) as connection:
        return {one.id: one for one in quiet_metrics(connection, SLUG, "UTC", FLOW_METRICS)}


def test_each_quiet_flow_is_named_with_its_last_good_day_and_the_values(sends: Books) -> None:
    quiet = found(sends)
    assert {id: (one.problem, one.last_good_day) for id, one in quiet.items()} == {
        "F1": ("stopped", day(BREAK - 1)),
        "F2": ("no conversions", day(BREAK - 1)),
        "F3": ("fell", day(BREAK)),
    }
    assert str(quiet["F1"]).startswith(
        "stops (F1): delivered 0 for 3 days, usually about 103 on an active day, last good"
    )
    assert "conversions 0 of 306 delivered" in str(quiet["F2"])
    assert "open rate 3." in str(quiet["F3"])


def test_a_flow_that_stopped_is_named_for_thirty_days(sends: Books) -> None:
    more = range(DAYS, DAYS + 30)
    sends.store.record("flow_metrics", *(synced(number, window(number).end + timedelta(hours=1)) for number in more))
    # F1 was found with the last of the days before. The others stopped later, and F6 seldom sends.
    assert found(sends).keys() == {"F2", "F3", "F4", "F6"}


def test_days_that_are_not_synced_are_not_taken_for_silence(sends: Books) -> None:
    sends.store.run("DELETE FROM flow_metrics WHERE date >= :since", since=day(BREAK))
    sends.store.run("DELETE FROM sync_windows WHERE window_start >= :since", since=window(BREAK).start)
    assert found(sends) == {}


def test_a_campaign_that_was_not_sent_a_day_after_its_send_time_is_named(books: Books) -> None:
    send = window(3).start
    rows = [
        ("C1", "Scheduled", send),
        ("C2", "Sent", send),
        ("C3", "Scheduled", send + timedelta(days=9)),
        ("C4", "Cancelled: No Recipients", send),
        ("C5", "Cancelled", send),
        ("C6", "Queued without Recipients", send),
        ("C7", "Draft", send),
    ]
    for id, status, moment in rows:
        books.store.run(
            "INSERT INTO campaigns (id, name, status, send_time, raw, observed_at) "
            "VALUES (:id, 'Sale', :status, :moment, '{}', now())",
            id=id,
            status=status,
            moment=moment,
        )
    books.store.record("campaigns", *(synced(number, window(number).end + timedelta(hours=1)) for number in range(6)))

    def unsent(hours: int) -> list[str]:
        with snapshot(books.store.engine) as connection:
            return [str(one) for one in unsent_campaigns(connection, SLUG, "UTC", send + timedelta(hours=hours))]

    assert unsent(23) == []
    assert unsent(25) == [
        f"Sale (C1): scheduled for {day(3)}, but not sent: Scheduled",
        f"Sale (C4): scheduled for {day(3)}, but not sent: Cancelled: No Recipients",
        f"Sale (C6): scheduled for {day(3)}, but not sent: Queued without Recipients",
    ]
