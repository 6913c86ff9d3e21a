"""The content of a report: sums and rates, the comparison with the previous period, and notices about missing days."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.reporting.content import last_days
from klaviyo_pipeline.reporting.period import Period
from klaviyo_pipeline.reporting.queries import Reader
from klaviyo_pipeline_tests.postgres.store import NOON, SLUG, day
from klaviyo_pipeline_tests.reporting.books import WEEK, Books

FORTNIGHT = Period(WEEK.before.first, WEEK.last)


def test_the_previous_period_has_the_same_length_and_ends_the_day_before() -> None:
    assert Period(date(2025, 3, 8), date(2025, 3, 14)).before == Period(date(2025, 3, 1), date(2025, 3, 7))
    assert Period(date(2025, 3, 8), date(2025, 3, 8)).before == Period(date(2025, 3, 7), date(2025, 3, 7))


def test_rates_are_computed_from_sums_over_days_flows_and_campaigns(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, recipients=100, delivered=90, opens_unique=9, conversion_value=5)
    books.book("flow_metrics", "F1", WEEK.last, recipients=10, delivered=10, opens_unique=9, conversion_value=0)
    books.book("campaign_metrics", "C1", WEEK.last, recipients=100, delivered=100, opens_unique=22, conversion_value=2)
    # 40 of 200 deliveries: the mean of the three rates would be 40.67%.
    assert books.value("Open rate*")[0] == "20.00%"
    assert books.value("Recipients")[0] == "210"
    assert books.value("Revenue")[0] == "7.00"
    rates = {row.name: row.cells[3] for row in books.content().by_source.rows}
    assert rates == {"Flows": "18.00%", "Campaigns": "22.00%", "Total": "20.00%"}


def test_the_total_revenue_is_unknown_if_that_of_one_day_or_source_is(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, recipients=10, delivered=10, conversion_value=5)
    books.book("flow_metrics", "F1", WEEK.last, recipients=10, delivered=10)
    books.book("flow_metrics", "F2", WEEK.first, recipients=10, delivered=10, conversion_value=5)
    books.book("campaign_metrics", "C1", WEEK.first, recipients=10, delivered=10, conversion_value=2)
    assert books.value("Revenue")[0] == "–"
    assert books.value("Revenue per delivery")[0] == "–"
    assert books.value("Recipients")[0] == "40"
    revenue = {row.name: row.cells[0] for row in books.content().by_source.rows}
    assert revenue == {"Flows": "–", "Campaigns": "2.00", "Total": "–"}


def test_days_without_revenue_because_klaviyo_refuses_it_are_named(books: Books) -> None:
    books.sync(WEEK.days)
    books.store.run("UPDATE sync_windows SET refused_statistics = '{conversion_value}' WHERE entity = 'flow_report'")
    [notice] = [one for one in books.content().notices if "revenue" in one]
    assert notice.startswith("Flows: revenue is not known for 7 days")


def test_days_outside_the_period_do_not_count(books: Books) -> None:
    for on in (WEEK.first - timedelta(days=1), WEEK.first, WEEK.last, WEEK.last + timedelta(days=1)):
        books.book("flow_metrics", "F1", on, recipients=1)
    assert books.value("Recipients")[0] == "2"


def test_a_missing_value_is_not_zero(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, recipients=3, delivered=0)
    assert books.value("Revenue")[0] == "–"
    assert books.value("Open rate*")[0] == "–"


def test_changes_are_in_percent_and_changes_of_rates_in_percentage_points(books: Books) -> None:
    books.sync(FORTNIGHT.days)
    before = {"conversion_value": Decimal(200), "delivered": 100, "opens_unique": 40}
    books.book("flow_metrics", "F1", WEEK.before.first, **before)
    books.book("flow_metrics", "F1", WEEK.first, conversion_value=Decimal(150), delivered=100, opens_unique=42)
    assert books.value("Revenue") == ("150.00", "200.00", "-25.0%")
    assert books.value("Open rate*") == ("42.00%", "40.00%", "+2.00 points")
    assert books.content().compared_with == "Compared with 1 Mar 2025 to 7 Mar 2025."


def test_a_change_that_is_rounded_to_zero_has_no_direction(books: Books) -> None:
    books.sync(FORTNIGHT.days)
    books.book("flow_metrics", "F1", WEEK.before.first, conversion_value=100_000, recipients=100)
    books.book("flow_metrics", "F1", WEEK.first, conversion_value=100_001, recipients=99)
    directions = {one.label: one.direction for one in books.content().key_metrics}
    assert (directions["Revenue"], directions["Recipients"]) == ("even", "down")


@pytest.mark.parametrize("lacking", [WEEK.before.last, WEEK.first])
def test_periods_are_not_compared_if_a_day_of_either_is_missing(lacking: date, books: Books) -> None:
    books.sync([on for on in FORTNIGHT.days if on != lacking], "flow_metrics")
    books.sync(FORTNIGHT.days, "campaign_metrics")
    for on in (WEEK.before.first, WEEK.last):
        books.book("flow_metrics", "F1", on, conversion_value=1)
    assert books.value("Revenue") == ("1.00", "", "")
    assert "Not compared" in books.content().compared_with
    assert "days of flows are missing" in books.content().compared_with


def test_periods_of_an_account_that_never_synced_campaigns_are_compared_by_flows(books: Books) -> None:
    books.sync(FORTNIGHT.days, "flow_metrics")
    for on in (WEEK.before.first, WEEK.last):
        books.book("flow_metrics", "F1", on, conversion_value=1)
    assert books.value("Revenue") == ("1.00", "1.00", "+0.0%")


def test_missing_failed_open_and_unsettled_days_are_named(books: Books) -> None:
    books.sync(WEEK.days, "campaign_metrics", "form_metrics", "segment_metrics")
    books.sync([day(7), day(8)], "flow_metrics")
    books.store.record_failed("flow_metrics", 9)
    books.sync([day(12)], "flow_metrics", after=timedelta(days=4))
    books.sync([day(13)], "flow_metrics", after=-timedelta(hours=2))
    assert list(books.content().notices) == [
        "Flows: not synced for 3 days (10 Mar 2025 to 12 Mar 2025).",
        "Flows: incomplete for 1 day (14 Mar 2025), because the request was sent before the end of the day.",
        "Flows: metrics may still change for 1 day (13 Mar 2025).",
    ]


def test_a_notice_about_several_kinds_of_object_appears_once(books: Books) -> None:
    books.sync(WEEK.days, "flow_metrics", "campaign_metrics")
    assert list(books.content().notices) == ["Forms, segments: not synced for any of these days."]


def test_days_with_a_report_but_without_computed_metrics_are_missing(books: Books) -> None:
    books.sync(WEEK.days)
    books.store.run("DELETE FROM sync_windows WHERE entity = 'flow_metrics'")
    assert list(books.content().notices) == ["Flows: not synced for any of these days."]


def test_a_day_is_in_the_time_zone_of_the_windows(books: Books) -> None:
    books.sync(WEEK.days)
    books.store.run("UPDATE account SET window_timezone = 'Pacific/Auckland'")
    books.store.run("UPDATE sync_windows SET window_start = window_start - interval '13 hours'")
    books.store.run("UPDATE sync_windows SET window_end = window_end - interval '13 hours'")
    assert list(books.content().notices) == []


def test_the_default_period_ends_with_the_last_final_day(books: Books) -> None:
    books.sync(WEEK.days[:4], "flow_metrics")
    books.sync(WEEK.days[4:], "flow_metrics", after=timedelta(days=4, hours=23))
    with snapshot(books.store.engine) as connection:
        assert last_days(Reader(connection, SLUG), ZoneInfo("UTC"), 3) == Period(day(8), day(10))


def test_the_default_period_of_an_account_without_final_days_ends_yesterday(books: Books) -> None:
    with snapshot(books.store.engine) as connection:
        reader = Reader(connection, SLUG)
        yesterday = reader.now().astimezone(ZoneInfo("Asia/Tokyo")).date() - timedelta(days=1)
        assert last_days(reader, ZoneInfo("Asia/Tokyo"), 30) == Period.ending(yesterday, 30)


def test_objects_are_ranked_and_the_others_summed_in_one_row(books: Books) -> None:
    for number in range(12):
        books.book("flow_metrics", f"F{number:02}", WEEK.first, f"Flow {number}", conversion_value=number)
    books.book("flow_metrics", "F99", WEEK.first, "No revenue")
    table = books.content().sections[0].table
    assert table.caption == "Top 10 of 13 flows by revenue, 8 Mar 2025 to 14 Mar 2025"
    assert [row.name for row in table.rows] == [*(f"Flow {number}" for number in range(11, 1, -1)), "3 others"]
    assert table.rows[-1].cells[0] == "1.00"


def test_campaigns_are_sorted_by_send_day_then_revenue(books: Books) -> None:
    books.book("campaign_metrics", "C1", WEEK.first, "early", conversion_value=900)
    books.book("campaign_metrics", "C2", WEEK.last, "late", conversion_value=1)
    books.book("campaign_metrics", "C3", WEEK.last, "late and rich", conversion_value=2)
    rows = books.content().sections[1].table.rows
    assert [(row.name, row.cells[0]) for row in rows] == [
        ("late and rich", "2025-03-14"),
        ("late", "2025-03-14"),
        ("early", "2025-03-08"),
    ]


def test_a_segment_has_the_members_of_the_latest_day_and_the_growth_of_the_whole_period(books: Books) -> None:
    books.book("segment_metrics", "S1", WEEK.first, "VIP", total_members=110, net_members_changed=10, members_added=12)
    books.book("segment_metrics", "S1", WEEK.last, "VIP", total_members=120, net_members_changed=10, members_added=10)
    [row] = books.content().sections[3].table.rows
    assert list(row.cells) == ["120", "+20", "+20.0%", "22", "–"]


def test_a_day_without_data_is_a_gap_in_the_chart(books: Books) -> None:
    books.book("flow_metrics", "F1", WEEK.first, conversion_value=7)
    revenue = books.content().panels[0]
    assert revenue.series[0].values == [Decimal(7), *[None] * 6]
    assert revenue.in_words() == "Revenue by day. Flows: from 7.00 (8 Mar 2025) to 7.00 (8 Mar 2025)."


def test_the_state_of_every_asset_is_reported_with_its_last_error(books: Books) -> None:
    books.store.record_failed("forms", 3, error="403 \x1b[31mforbidden")
    rows = {row.name: row for row in books.content().freshness.rows}
    assert rows.keys() == {asset for (asset,) in books.store.rows("SELECT entity FROM assets WHERE is_on")}
    assert rows["forms"].cells[0] == "failed"
    assert rows["forms"].detail == "403 �[31mforbidden"


def test_the_report_reads_one_snapshot(books: Books) -> None:
    with snapshot(books.store.engine) as connection:
        reader = Reader(connection, SLUG)
        assert reader.account().currency == "USD"
        books.store.run("UPDATE account SET currency = 'EUR'")
        assert reader.account().currency == "USD"
        assert reader.now() > NOON
