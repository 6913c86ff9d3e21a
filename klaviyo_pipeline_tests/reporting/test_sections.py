"""Exact rates, revenue by both dates, A/B tests and quiet objects on the page."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.reporting.content import Section
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline_tests.postgres.store import FIRST_DAY, NOON, SLUG, synced, window
from klaviyo_pipeline_tests.reporting.books import LONG_SETTLED, WEEK, Books

MONDAY = date(2025, 3, 10)
CALENDAR_WEEK = Period(MONDAY, MONDAY + timedelta(days=6))
SENT = {"recipients": 100, "delivered": 100}


def insert(books: Books, table: str, **row: Any) -> None:
    columns = sa.table(table, *(sa.column(name) for name in row), schema=SLUG)
    with books.store.engine.begin() as connection:
        connection.execute(sa.insert(columns).values(row))


def section(books: Books, title: str, period: Period = WEEK) -> Section | None:
    return next((one for one in books.content(period).sections if one.title == title), None)


def book_week(books: Books, monday: date, opened: int, covered_from: date | None = None) -> None:
    """A week of one flow: 80 daily openers, of whom `opened` are different people."""
    for number in range(2):
        books.book("flow_metrics", "F1", monday + timedelta(days=number), **SENT, opens_unique=40, conversion_value=5)
    week = {"covered_from": covered_from or monday, "covered_to": monday + timedelta(days=6), "messages": 1}
    sums = {"recipients": 200, "delivered": 200, "opens_unique": opened, "conversion_value": 10}
    named = {"flow_id": "F1", "flow_name": "Welcome", "period_start": monday, "observed_at": NOON}
    insert(books, "flow_metrics_weekly", **named, **week, **sums)
    start = datetime.combine(monday, time(), UTC)
    end = start + timedelta(days=7)
    books.store.run(
        "INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at, started_at, finished_at) "
        "VALUES ('flow_metrics_weekly', :start, :end, 'synced', :asked, :asked, :asked)",
        start=start,
        end=end,
        asked=end + LONG_SETTLED,
    )


def test_a_calendar_week_has_klaviyos_own_rates_and_says_so(books: Books) -> None:
    books.sync([*CALENDAR_WEEK.before.days, *CALENDAR_WEEK.days])
    book_week(books, MONDAY, opened=50)
    assert books.value("Open rate", CALENDAR_WEEK)[0] == "25.00%"
    flows = section(books, "Top flows", CALENDAR_WEEK)
    assert flows is not None
    assert flows.table.headings[3] == "Open rate"
    assert flows.table.rows[0].cells[2] == "25.00%"
    page = books.page(CALENDAR_WEEK)
    assert "Rates are exact" in page
    assert "rate*" not in page


def test_an_exact_rate_is_compared_with_an_exact_one_only(books: Books) -> None:
    books.sync([*CALENDAR_WEEK.before.days, *CALENDAR_WEEK.days])
    book_week(books, MONDAY, opened=50)
    books.book("flow_metrics", "F1", MONDAY - timedelta(days=7), **SENT, opens_unique=20, conversion_value=5)
    assert books.value("Open rate", CALENDAR_WEEK) == ("25.00%", "", "")
    assert books.value("Revenue", CALENDAR_WEEK) == ("10.00", "5.00", "+100.0%")
    assert "Rates are not compared" in books.content(CALENDAR_WEEK).compared_with
    books.store.run("DELETE FROM flow_metrics WHERE date < :monday", monday=MONDAY)
    book_week(books, MONDAY - timedelta(days=7), opened=40)
    assert books.value("Open rate", CALENDAR_WEEK) == ("25.00%", "20.00%", "+5.00 points")


def test_rates_of_other_days_are_weighted_and_those_of_the_weeks_within_are_exact(books: Books) -> None:
    longer = Period(MONDAY - timedelta(days=1), CALENDAR_WEEK.last)
    book_week(books, MONDAY, opened=50)
    assert books.value("Open rate*", longer)[0] == "40.00%"
    page = books.page(longer)
    assert "weighted averages" in page
    assert "metrics --from 2025-03-09 --to 2025-03-16 --exact" in page
    weeks = section(books, "Flows by week", longer)
    assert weeks is not None
    assert [(row.name, row.cells[2]) for row in weeks.table.rows] == [("10 Mar 2025 to 16 Mar 2025", "25.00%")]


def test_a_week_of_which_klaviyo_counted_only_a_part_is_not_exact(books: Books) -> None:
    book_week(books, MONDAY, opened=50, covered_from=MONDAY + timedelta(days=1))
    assert books.value("Open rate*", CALENDAR_WEEK)[0] == "40.00%"
    assert section(books, "Flows by week", CALENDAR_WEEK) is None


def test_a_week_that_was_not_synced_after_its_end_is_not_exact(books: Books) -> None:
    book_week(books, MONDAY, opened=50)
    books.store.run("DELETE FROM sync_windows WHERE entity = 'flow_metrics_weekly'")
    assert books.value("Open rate*", CALENDAR_WEEK)[0] == "40.00%"


def test_the_unique_counts_of_a_single_day_are_exact(books: Books) -> None:
    books.book("flow_metrics", "F1", MONDAY, **SENT, opens_unique=40)
    assert books.value("Open rate", Period(MONDAY, MONDAY))[0] == "40.00%"


def test_days_that_were_requested_exactly_have_the_rates_of_the_answer(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, **SENT, opens_unique=40)
    books.book("flow_metrics", "F1", WEEK.last, **SENT, opens_unique=40)
    days = {"first_day": WEEK.first, "last_day": WEEK.last}
    insert(books, "exact_answers", **days, entity="flows", asked_at=NOON, conversion_metric_id="M")
    insert(books, "flow_metrics_exact", **days, flow_id="F1", recipients=200, delivered=200, opens_unique=50)
    books.store.run("UPDATE account SET attribution_days = 5")
    assert books.value("Open rate*")[0] == "40.00%"
    # Requested after the values were final.
    books.store.run("UPDATE exact_answers SET asked_at = '2025-06-01 00:00+00'")
    assert books.value("Open rate")[0] == "25.00%"


def order(books: Books, on: date, value: int | None, flow: str = "", message: str = "", metric: str = "M") -> None:
    key = {"conversion_metric_id": metric, "date": on, "flow_id": flow, "message_id": message, "campaign_id": ""}
    sums = {"conversions": 1, "conversion_uniques": 1, "conversion_value": value}
    insert(books, "conversions_daily", **key, **sums, send_channel="email" if message else "", observed_at=NOON)


def test_revenue_stands_by_send_date_beside_order_date(books: Books) -> None:
    books.sync(WEEK.days, "flow_metrics", "campaign_metrics")
    books.book("flow_metrics", "F1", WEEK.first, **SENT, conversion_value=100)
    books.book("campaign_metrics", "C1", WEEK.last, **SENT, conversion_value=30)
    assert section(books, "Revenue by send and order date") is None
    days = [(WEEK.first - FIRST_DAY).days + number for number in range(7)]
    for number in days:
        books.store.record("conversions_daily", synced(number, window(number).end + LONG_SETTLED), metric="M")
    order(books, WEEK.first, 60, "F1", "FM")
    order(books, WEEK.last, 15, "F1", "FM2")
    order(books, WEEK.last, 20, message="of a campaign that is not known")
    order(books, WEEK.last, 500)
    order(books, WEEK.last, 9000, "F1", "FM", metric="an earlier one")
    order(books, WEEK.last + timedelta(days=1), 7000, "F1", "FM")
    found = section(books, "Revenue by send and order date")
    assert found is not None
    assert [(row.name, list(row.cells)) for row in found.table.rows] == [
        ("Flows", ["100.00", "75.00"]),
        ("Campaigns", ["30.00", "20.00"]),
        ("Attributed", ["130.00", "95.00"]),
        ("Not attributed to a message", ["–", "500.00"]),
    ]
    by_send, by_order = (series.values for series in found.panels[0].series)
    assert (by_send[0], by_send[6], by_order[0], by_order[6]) == (100, 30, 60, 35)
    assert not [notice for notice in books.content().notices if "order date" in notice]
    books.store.run("UPDATE conversions_daily SET conversion_value = NULL WHERE message_id = 'FM2'")
    found = section(books, "Revenue by send and order date")
    assert found is not None
    assert [row.cells[1] for row in found.table.rows] == ["–", "20.00", "–", "500.00"]


def test_days_without_the_orders_are_named(books: Books) -> None:
    number = (WEEK.first - FIRST_DAY).days
    books.store.record("conversions_daily", synced(number, window(number).end + LONG_SETTLED), metric="M")
    order(books, WEEK.first, 60)
    [notice] = [notice for notice in books.content().notices if "order date" in notice]
    assert notice == "Revenue by order date: not synced for 6 days (9 Mar 2025 to 14 Mar 2025)."


def vary(books: Books, campaign: str, variation: str, delivered: int, clicked: int, on: date = WEEK.first) -> None:
    key = {"campaign_id": campaign, "campaign_message_id": "M", "send_channel": "email", "date": on}
    named = {"variation": variation, "variation_name": variation.upper(), "conversion_metric_id": "M"}
    sums = {"delivered": delivered, "clicks_unique": clicked, "observed_at": NOON}
    insert(books, "campaign_report_by_variation", **key, **named, **sums)


DOCUMENT = (PROJECT_ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
WORDS = {"very": "very sure", "fair": "fairly sure", "not:": "may be chance"}


def test_variations_stand_side_by_side_with_lift_and_certainty_as_in_the_documented_query(books: Books) -> None:
    assert section(books, "A/B tests") is None
    books.sync(WEEK.days, "campaign_metrics")
    first = (WEEK.first - FIRST_DAY).days
    for number in range(first, first + 7):
        books.store.record("campaign_report_by_variation", synced(number, window(number).end), metric="M")
    tested = {"C1": (50, 90), "C2": (50, 73), "C3": (50, 60), "C4": (0, 9)}
    for campaign, (one, other) in tested.items():
        books.store.run(
            "INSERT INTO campaigns (id, name, raw, observed_at) VALUES (:id, :id, '{}', now())", id=campaign
        )
        vary(books, campaign, "a", 1000, one)
        vary(books, campaign, "b", 1000, other)
    vary(books, "C5", "a", 9000, 9)
    vary(books, "C1", "c", 1000, 50, on=WEEK.last + timedelta(days=1))
    found = section(books, "A/B tests")
    assert found is not None
    rows = [(row.detail, row.name, *row.cells) for row in found.table.rows]
    assert rows == [
        ("C1", "A", "1,000", "5.00%", "–", "first"),
        ("C1", "B", "1,000", "9.00%", "+80.0%", "very sure"),
        ("C2", "A", "1,000", "5.00%", "–", "first"),
        ("C2", "B", "1,000", "7.30%", "+46.0%", "fairly sure"),
        ("C3", "A", "1,000", "5.00%", "–", "first"),
        ("C3", "B", "1,000", "6.00%", "+20.0%", "may be chance"),
        ("C4", "A", "1,000", "0.00%", "–", "first"),
        ("C4", "B", "1,000", "0.90%", "–", "too few clicks"),
    ]
    [query] = re.findall(r"^## 15\. .*?^```sql\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    query = query.replace("2025-03-01", str(WEEK.first)).replace("2025-03-31", str(WEEK.last)).replace("klaviyo.", "")
    documented = {(row[0], row[1]): row for row in books.store.rows(query)}
    for detail, name, _, _, lift, sure in rows:
        row = documented[detail, name]
        if name == "B" and sure != "too few clicks":
            assert WORDS[row[6][:4]] == sure
            assert Decimal(lift.rstrip("%")) / 100 == row[4]


@pytest.mark.parametrize("name", ["Welcome", "<b>\u202eemoclew</b>"])
def test_a_flow_that_is_quiet_now_is_named_at_the_top(name: str, books: Books) -> None:
    books.store.run(
        "INSERT INTO flows (id, name, status, raw, observed_at) VALUES ('F1', :name, 'live', '{}', now())", name=name
    )
    days = [FIRST_DAY + timedelta(days=number) for number in range(60)]
    books.sync(days, "flow_metrics", after=timedelta(hours=1))
    for on in days[:57]:
        books.book("flow_metrics", "F1", on, delivered=100, conversions=12)
    page = books.page()
    top = page[page.index("Quiet now") : page.index(">Key metrics</h2>")]
    shown = name.replace("<b>\u202e", "&lt;b&gt;�").replace("</b>", "&lt;/b&gt;")
    assert (
        f"{shown} (flow F1): delivered 0 for 3 days, usually about 100 on an active day, last good day 2025-04-26."
        in top
    )


def test_without_quiet_objects_the_page_does_not_speak_of_them(books: Books) -> None:
    assert "Quiet now" not in books.page()
