"""The query of metric aggregates and its answer."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.klaviyo.aggregates import PAGE_SIZE, body, read_rows
from klaviyo_pipeline.klaviyo.errors import MalformedAnswer

NEW_YORK = ZoneInfo("America/New_York")


def answer(dates: list[str], *rows: tuple[list[str], list[int]], **links: str | None) -> dict[str, Any]:
    data = [
        {"dimensions": names, "measurements": {"count": counts, "unique": counts, "sum_value": counts}}
        for names, counts in rows
    ]
    return {"data": {"attributes": {"dates": dates, "data": data}}, "links": {"self": "https://a.klaviyo.com"} | links}


@pytest.mark.parametrize(
    ("zone", "dates", "days"),
    [
        ("America/New_York", ["2025-03-09T05:00:00+00:00", "2025-03-10T04:00:00+00:00"], (9, 10)),
        ("America/New_York", ["2025-03-09T00:00:00-05:00", "2025-03-10T00:00:00-04:00"], (9, 10)),
        ("America/New_York", ["2025-03-09T00:00:00+00:00", "2025-03-10T00:00:00+00:00"], (9, 10)),
        ("America/New_York", ["2025-03-09T00:00:00", "2025-03-10T00:00:00"], (9, 10)),
        ("America/New_York", ["2025-03-09T05:00:00+00:00", "2025-03-10T05:00:00+00:00"], (9, 10)),
        ("Pacific/Auckland", ["2025-04-05T11:00:00+00:00", "2025-04-06T12:00:00+00:00"], (6, 7)),
        ("Pacific/Auckland", ["2025-04-06T00:00:00+00:00", "2025-04-07T00:00:00+00:00"], (6, 7)),
        ("Asia/Kolkata", ["2025-04-05T18:30:00+00:00", "2025-04-06T18:30:00+00:00"], (6, 7)),
        # The clocks change at midnight: the day begins at 01:00.
        ("America/Santiago", ["2025-09-06T04:00:00+00:00", "2025-09-07T04:00:00+00:00"], (6, 7)),
        ("UTC", ["2025-04-05T00:00:00+00:00", "2025-04-06T00:00:00+00:00"], (5, 6)),
    ],
)
def test_a_day_is_the_zones_own_whether_its_start_is_an_instant_or_a_wall_clock(
    zone: str, dates: list[str], days: tuple[int, ...]
) -> None:
    found = read_rows(answer(dates, (["email", "F", "M"], [1, 2]), next=None), ZoneInfo(zone))
    assert sorted(day.day for day in found.days) == list(days)
    assert [(row["date"].day, row["conversions"]) for row in found.rows] == list(zip(days, (1, 2), strict=True))


def test_events_without_dimensions_have_empty_texts_and_zeros_are_left_out() -> None:
    rows = ([], [3, 0]), (["push-notification", "", "M"], [0, 1])
    found = read_rows(answer(["2025-03-01", "2025-03-02"], *rows, next=None), NEW_YORK)
    assert [(row["send_channel"], row["flow_id"], row["message_id"], row["date"].day) for row in found.rows] == [
        ("", "", "", 1),
        ("mobile_push", "", "M", 2),
    ]
    assert found.rows[0]["conversion_value"] == Decimal(3)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({}, "no attributes"),
        (answer(["2025-03-01", "2025-03-01"]), "a day twice"),
        (answer(["2025-03-01"], (["email"], [1])), "1 dimension in a row"),
        (answer(["2025-03-01"], (["email", "F", "M"], [1, 2])), r"for each day \(1 day\)"),
        (answer(["2025-03-01"], *[([], [1])] * PAGE_SIZE), "a full page, but no link"),
        (answer(["2025-03-01"], next="https://a.klaviyo.com/api"), "without a cursor"),
    ],
    ids=lambda param: param if isinstance(param, str) else "",
)
def test_an_answer_that_could_store_a_wrong_value_is_malformed(document: dict[str, Any], what: str) -> None:
    with pytest.raises(MalformedAnswer, match=what):
        read_rows(document, NEW_YORK)


def test_the_next_page_is_that_of_the_links_cursor() -> None:
    document = answer(["2025-03-01"], next="https://a.klaviyo.com/api/metric-aggregates?page_cursor=abc%3D")
    assert read_rows(document, NEW_YORK).cursor == "abc="


@pytest.mark.parametrize(
    ("zone", "requested"),
    [("Europe/Kyiv", "Europe/Kiev"), ("Pacific/Kanton", "Pacific/Enderbury"), ("Europe/Kiev", "Europe/Kiev")],
)
def test_a_zone_that_the_query_does_not_know_is_requested_by_its_older_name(zone: str, requested: str) -> None:
    made = body("M", date(2025, 3, 2), date(2025, 3, 3), ZoneInfo(zone), datetime(2025, 6, 1, tzinfo=UTC))
    attributes: dict[str, Any] = made["data"]["attributes"]
    assert attributes["timezone"] == requested
    assert same_zone(zone, requested)


def test_the_bounds_have_a_days_margin_and_do_not_reach_the_present() -> None:
    def bounds(now: datetime) -> list[str]:
        made = body("M", date(2025, 3, 2), date(2025, 3, 3), NEW_YORK, now)
        return list(made["data"]["attributes"]["filter"])

    assert bounds(datetime(2025, 6, 1, tzinfo=UTC)) == [
        "greater-or-equal(datetime,2025-03-01T00:00:00)",
        "less-than(datetime,2025-03-05T00:00:00)",
    ]
    assert bounds(datetime(2025, 3, 3, 12, tzinfo=UTC))[1] == "less-than(datetime,2025-03-03T06:59:50)"
