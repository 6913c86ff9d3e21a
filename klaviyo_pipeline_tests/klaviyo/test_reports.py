"""Report requests, and the rows of their answers."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from klaviyo_pipeline.klaviyo.errors import CursorExpired, MalformedAnswer
from klaviyo_pipeline.klaviyo.escape import escape
from klaviyo_pipeline.klaviyo.report_rows import added_up, read_rows
from klaviyo_pipeline.klaviyo.report_types import Report
from klaviyo_pipeline.klaviyo.reports import (
    API_REPORTS,
    CAMPAIGN_VALUES,
    FLOW_SERIES,
    FLOW_VALUES,
    FORM_SERIES,
    SEGMENT_SERIES,
    body,
)

from .conftest import Bench
from .fakes import NOON
from .resources import result, series
from .scripted_server import Scripted, ok, refused

DAY = date(2026, 6, 1)
DAYS = ["2026-06-01T00:00:00+00:00", "2026-06-02T00:00:00+00:00"]


def attributes(requested: dict[str, object]) -> dict[str, object]:
    data = requested["data"]
    assert isinstance(data, dict)
    reported = data["attributes"]
    assert isinstance(reported, dict)
    return reported


def test_a_series_is_requested_from_the_first_second_to_the_last_of_its_days() -> None:
    requested = body(FLOW_SERIES, DAY, DAY + timedelta(days=1), "M1")
    assert attributes(requested) == {
        "statistics": list(FLOW_SERIES.statistics),
        "timeframe": {"start": "2026-06-01T00:00:00+00:00", "end": "2026-06-02T23:59:59+00:00"},
        "interval": "daily",
        "group_by": ["flow_id", "flow_message_id", "send_channel"],
        "conversion_metric_id": "M1",
    }


def test_a_values_report_has_no_interval() -> None:
    assert "interval" not in attributes(body(CAMPAIGN_VALUES, DAY, DAY, "M1"))


def test_a_segment_report_has_no_grouping_and_no_metric() -> None:
    assert set(attributes(body(SEGMENT_SERIES, DAY, DAY, "M1"))) == {"statistics", "timeframe", "interval"}


def test_a_filter_is_passed_on() -> None:
    assert attributes(body(FORM_SERIES, DAY, DAY, filter='equals(form_id,"X")'))["filter"] == 'equals(form_id,"X")'


@pytest.mark.parametrize(
    ("report", "last", "metric"),
    [
        (FLOW_SERIES, DAY - timedelta(days=1), "M1"),
        (FLOW_SERIES, DAY + timedelta(days=59), "M1"),
        (FLOW_VALUES, DAY + timedelta(days=365), "M1"),
        (FLOW_SERIES, DAY, None),
    ],
)
def test_a_request_that_klaviyo_would_reject_is_not_built(report: Report, last: date, metric: str | None) -> None:
    with pytest.raises(ValueError):
        body(report, DAY, last, metric)


def test_the_longest_series_is_fifty_nine_days() -> None:
    body(FLOW_SERIES, DAY, DAY + timedelta(days=58), "M1")


def test_a_series_becomes_one_row_for_each_result_and_day() -> None:
    answer = series([result(2, opens=[1, None]), result(2, "F2")], DAYS)
    found = read_rows(FLOW_SERIES, answer).rows
    assert [(row["flow_id"], row["date"]) for row in found] == [
        ("F1", DAY),
        ("F1", date(2026, 6, 2)),
        ("F2", DAY),
        ("F2", date(2026, 6, 2)),
    ]
    assert [row["opens"] for row in found[:2]] == [Decimal(1), None]
    assert set(found[0]) == {*FLOW_SERIES.keys, "date", *FLOW_SERIES.statistics, "other_statistics"}
    assert found[0]["other_statistics"] is None


@pytest.mark.parametrize("written", ["2026-06-01T00:00:00-10:00", "2026-06-01T23:00:00+14:00", "2026-06-01"])
def test_a_day_is_the_calendar_date_as_written(written: str) -> None:
    assert read_rows(FLOW_SERIES, series([result(1)], [written])).rows[0]["date"] == DAY


@pytest.mark.parametrize(
    ("zone", "written", "day"),
    [
        ("Asia/Kathmandu", "2026-05-31T18:15:00+00:00", 1),
        ("Europe/Berlin", "2026-05-31T22:00:00Z", 1),
        ("America/New_York", "2026-06-01T04:00:00+00:00", 1),
        ("America/New_York", "2026-06-01T00:00:00+00:00", 1),
        ("Asia/Kathmandu", "2026-06-01T00:00:00-05:00", 1),
        ("Europe/Berlin", "2026-06-01T23:00:00+14:00", 1),
        # The clocks change at midnight: the day begins at 01:00.
        ("Africa/Cairo", "2026-04-23T22:00:00+00:00", 24),
    ],
)
def test_an_instant_at_which_a_day_of_the_account_begins_is_that_day(zone: str, written: str, day: int) -> None:
    found = read_rows(FLOW_SERIES, series([result(1)], [written]), ZoneInfo(zone))
    assert found.rows[0]["date"].day == day


def test_no_results_are_no_rows() -> None:
    assert read_rows(FLOW_SERIES, series([], DAYS)).rows == []


def test_a_values_report_becomes_one_row_for_each_result() -> None:
    groupings = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "sms"}
    reported: dict[str, object] = {"groupings": groupings, "statistics": {"opens": Decimal("3.0")}}
    found = read_rows(FLOW_VALUES, {"data": {"attributes": {"results": [reported]}}})
    assert len(found.rows) == 1
    assert "date" not in found.rows[0]
    assert found.rows[0]["opens"] == Decimal("3.0")


def test_undeclared_statistics_are_counted_and_kept_by_day() -> None:
    reported = series([result(2, wows=[1, 2], **{"a\0": None}), result(2, "F2", wows="odd")], DAYS)
    found = read_rows(FLOW_SERIES, reported)
    assert found.unknown == {"wows": 2, escape("a\0"): 1}
    assert "wows" not in found.rows[0]
    assert [row["other_statistics"] for row in found.rows] == [
        {"wows": 1, "a␛u0000": None},
        {"wows": 2, "a␛u0000": None},
        {"wows": "odd"},
        {"wows": "odd"},
    ]


def test_undeclared_statistics_of_a_values_report_are_kept_whole() -> None:
    reported: dict[str, object] = {"groupings": {"flow_id": "F1"}, "statistics": {"wows": [Decimal("0.10")]}}
    [row] = read_rows(FLOW_VALUES, {"data": {"attributes": {"results": [reported]}}}).rows
    assert row["other_statistics"] == {"wows": [Decimal("0.10")]}


def test_a_declared_statistic_that_is_missing_is_none_and_counted() -> None:
    reported = result(1)
    statistics = reported["statistics"]
    assert isinstance(statistics, dict)
    del statistics["opens"]
    found = read_rows(FLOW_SERIES, series([reported], DAYS[:1]))
    assert found.rows[0]["opens"] is None
    assert found.missing == {"opens": 1}


@pytest.mark.parametrize("groupings", [{"flow_id": "F1", "send_channel": None}, {"flow_id": None}, None])
def test_a_missing_grouping_does_not_lose_the_values(groupings: dict[str, object] | None) -> None:
    (row,) = read_rows(FLOW_SERIES, series([result(1, opens=[5]) | {"groupings": groupings}], DAYS[:1])).rows
    ids = ("F1" if groupings and groupings["flow_id"] else "", "", "")
    assert (row["flow_id"], row["flow_message_id"], row["send_channel"], row["opens"]) == (*ids, Decimal(5))


def group(message: str | None, **statistics: object) -> dict[str, object]:
    reported = result(1, **{name: [figure] for name, figure in statistics.items()})
    return reported | {"groupings": {"flow_id": "F1", "flow_message_id": message, "send_channel": "email"}}


def pages(*answers: list[Mapping[str, object]]) -> list[dict[str, object]]:
    return added_up(FLOW_SERIES, [read_rows(FLOW_SERIES, series(answer, DAYS[:1])).rows for answer in answers])


@pytest.mark.parametrize("split", [True, False])
def test_groups_without_an_id_are_added_up_on_one_page_and_on_two(split: bool) -> None:
    first = group(None, recipients=100, opens_unique=None, open_rate=0.5, wows=1)
    second = group(None, recipients=11, opens_unique=3, open_rate=0.25, wows=2)
    (row,) = pages([first], [second]) if split else pages([first, second])
    assert (row["recipients"], row["opens_unique"], row["open_rate"]) == (111, 3, None)
    assert (row["groups"], row["other_statistics"]) == (2, {"wows": [1, 2]})


def test_a_group_with_all_ids_that_a_later_page_repeats_counts_once() -> None:
    (row,) = pages([group("M1", recipients=100, open_rate=0.5)], [group("M1", recipients=101, open_rate=0.25)])
    assert (row["recipients"], row["open_rate"], row["groups"]) == (101, Decimal("0.25"), 1)


def test_two_groups_with_the_same_ids_on_one_page_are_added_up() -> None:
    (row,) = pages([group("M1", recipients=100), group("M1", recipients=11)])
    assert (row["recipients"], row["groups"]) == (111, 2)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {}},
        {"data": {"attributes": {"results": []}}},
        {"data": {"attributes": {"date_times": []}}},
        {"data": {"attributes": {"date_times": [], "results": [1]}}},
        series([result(2, opens=[1])], DAYS),
        series([result(2, opens=[1, 2, 3])], DAYS),
        series([result(2, opens=7)], DAYS),
        series([result(1, opens=["7"])], DAYS[:1]),
        series([result(1, opens=[True])], DAYS[:1]),
        series([result(2)], [DAYS[0], DAYS[0]]),
        series([result(1)], ["soon"]),
        series([result(1) | {"statistics": None}], DAYS[:1]),
    ],
)
def test_an_answer_that_could_store_a_value_for_a_wrong_day_is_malformed(answer: dict[str, object]) -> None:
    with pytest.raises(MalformedAnswer, match="flow series"):
        read_rows(FLOW_SERIES, answer)


def test_a_value_that_is_not_a_number_is_named() -> None:
    with pytest.raises(MalformedAnswer, match=r"flow series report has a value of opens that is not a number: '7'\."):
        read_rows(FLOW_SERIES, series([result(1, opens=["7"])], DAYS[:1]))


def test_a_report_is_posted_and_its_pages_are_followed_with_the_same_body(bench: Bench) -> None:
    following = f"{bench.server.url}/api/flow-series-reports?page_cursor=b"
    bench.server.will(ok(series([result(1)], DAYS[:1], next=following)), ok(series([result(1, "F2")], DAYS[:1])))
    requested = body(FLOW_SERIES, DAY, DAY, "M1")
    first, second = bench.client.report_pages(FLOW_SERIES, requested)
    assert [row["flow_id"] for page in (first, second) for row in page.rows] == ["F1", "F2"]
    assert (first.observed_at, second.number) == (NOON, 2)
    assert [one.target for one in bench.server.requested] == [
        "/api/flow-series-reports",
        "/api/flow-series-reports?page_cursor=b",
    ]
    for one in bench.server.requested:
        assert (one.method, one.headers["content-type"]) == ("POST", "application/vnd.api+json")
        assert json.loads(one.body) == requested
    assert [record.rows for record in bench.records] == [1, 1]


def test_values_keep_every_digit_of_the_response(bench: Bench) -> None:
    text = json.dumps(series([result(1, opens=[0])], DAYS[:1])).replace(
        '"opens": [0]', '"opens": [1209.80997000000000012345]'
    )
    bench.server.will(Scripted(200, text.encode()))
    (page,) = bench.client.report_pages(FLOW_SERIES, body(FLOW_SERIES, DAY, DAY, "M1"))
    assert page.rows[0]["opens"] == Decimal("1209.80997000000000012345")


def test_a_report_whose_cursor_expires_is_not_started_again(bench: Bench) -> None:
    following = f"{bench.server.url}/api/flow-series-reports?page_cursor=b"
    bench.server.will(ok(series([result(1)], DAYS[:1], next=following)), refused(400, "Invalid cursor provided."))
    with pytest.raises(CursorExpired):
        list(bench.client.report_pages(FLOW_SERIES, body(FLOW_SERIES, DAY, DAY, "M1")))
    assert len(bench.server.requested) == 2


@pytest.mark.parametrize("report", API_REPORTS.values(), ids=API_REPORTS)
def test_every_statistic_has_one_use(report: Report) -> None:
    assert len(set(report.statistics)) == len(report.statistics)
    assert set(report.additive) <= set(report.statistics)
    assert not any(name.endswith(("_rate", "_uniques", "_unique")) for name in report.additive)
