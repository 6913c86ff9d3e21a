"""The flow report and its metrics: exact to the cent, by the account's own days, with earlier values kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.klaviyo.reports import FLOW_VALUES, body
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.sandbox.daily_counts import UNIT
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, key_of, pipeline_on, put, utc

pytestmark = pytest.mark.slow

DAY = "2025-03-10"
OLD = utc("2024-06-01T12:00:00")
MESSAGE = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
COUNTED = ("recipients", "delivered", "opens", "clicks", "conversions", "conversion_value", "bounced", "unsubscribes")


def set_day(shop: SandboxAccount, day: str = DAY, flow: str = "F1", message: str = "M1", **counts: float) -> None:
    """Set the values of one message on one day."""
    shop.set_figures("flow", {**MESSAGE, "flow_id": flow, "flow_message_id": message}, date.fromisoformat(day), counts)


@pytest.fixture
def shop() -> SandboxAccount:
    """An account with one flow, older than the first window, with a few values."""
    shop = empty_shop()
    put(shop, "flows", "F1", OLD, name="Welcome", status="live", trigger_type="Metric")
    set_day(shop, recipients=100, delivered=98, opens_unique=49, conversions=3, conversion_value=120.35)
    return shop


def values_of(shop: SandboxAccount, first: date, last: date) -> dict[tuple[str, date], tuple[Decimal, ...]]:
    """The account's own counts by flow and day, without zeros."""
    sums: dict[tuple[str, date], list[int]] = defaultdict(lambda: [0] * len(COUNTED))
    for group in shop.figures.groups["flow"]:
        day = first
        while day <= last:
            counts = group.counts(day)
            if any(counts.values()):
                total = sums[group.groupings["flow_id"], day]
                total[:] = [sum(pair) for pair in zip(total, (counts.get(name, 0) for name in COUNTED), strict=True)]
            day += timedelta(days=1)
    return {key: tuple(Decimal(units) / UNIT for units in total) for key, total in sums.items()}


def metrics_of(pipeline: Pipeline) -> dict[tuple[str, date], tuple[Decimal, ...]]:
    found = pipeline.rows(f"SELECT flow_id, date, {', '.join(COUNTED)} FROM flow_metrics")
    return {(row[0], row[1]): row[2:] for row in found}


def values_report(pipeline: Pipeline, first: date, last: date) -> list[dict[str, Any]]:
    """Klaviyo's values for all days, requested separately from the pipeline."""
    answer = httpx.post(
        f"{pipeline.server.url}{FLOW_VALUES.path}",
        json=body(FLOW_VALUES, first, last, "RPlacd"),
        headers={"Authorization": f"Klaviyo-API-Key {key_of(pipeline.shop)}", "revision": "2026-07-15"},
    )
    return list(answer.raise_for_status().json()["data"]["attributes"]["results"])


@pytest.fixture(params=["America/New_York", "Asia/Kolkata", "Pacific/Auckland"])
def generated(request: pytest.FixtureRequest, migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    shop = generate_account(5, flows=12, campaigns=0, forms=0, segments=0, timezone=request.param)
    shop.api_keys = empty_shop().api_keys
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


@pytest.mark.parametrize(
    ("first", "last"),
    [("2025-03-01", "2025-04-30"), ("2025-09-20", "2025-11-10")],
    ids=["in spring", "in autumn"],
)
def test_metrics_equal_the_accounts_values_to_the_cent_over_a_change_of_the_clocks(
    generated: Pipeline, first: str, last: str
) -> None:
    generated.run("flow_report", first, last)
    generated.run("flow_metrics", first, last)
    days = date.fromisoformat(first), date.fromisoformat(last)
    expected = values_of(generated.shop, *days)
    assert len(expected) > 100
    assert metrics_of(generated) == expected
    whole = values_report(generated, *days)
    for place, name in enumerate(COUNTED):
        reported = sum(Decimal(str(result["statistics"][name])) for result in whole)
        assert reported == sum(row[place] for row in expected.values()), name


def test_a_day_of_the_report_is_a_day_of_the_account(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = empty_shop("Pacific/Auckland")
    for day, recipients in (("2025-03-09", 1), ("2025-03-10", 2), ("2025-03-11", 4)):
        set_day(shop, day, recipients=recipients)
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run("flow_report", DAY)
        assert pipeline.rows("SELECT date, recipients FROM flow_report") == [(date(2025, 3, 10), Decimal(2))]


def test_a_day_is_counted_once_however_its_windows_are_requested(shop: SandboxAccount, pipeline: Pipeline) -> None:
    for day in ("2025-03-11", "2025-03-12"):
        set_day(shop, day, recipients=10)
    pipeline.run("flow_report", "2025-03-11", "2025-03-12")
    pipeline.run("flow_report", "2025-03-10", "2025-03-11")
    assert pipeline.one("SELECT sum(recipients) FROM flow_report") == 120


def test_rates_are_computed_from_the_sums_over_the_flows_messages(shop: SandboxAccount, pipeline: Pipeline) -> None:
    set_day(shop, message="M2", recipients=300, delivered=200, opens_unique=1, conversions=1, conversion_value=78.65)
    pipeline.run("flow_report", DAY)
    pipeline.run("flow_metrics", DAY)
    [row] = pipeline.rows(
        "SELECT messages, recipients, open_rate, delivery_rate, revenue_per_recipient, average_order_value, "
        "click_to_open_rate, click_rate FROM flow_metrics"
    )
    assert row[:2] == (2, 400)
    assert [round(value, 6) for value in row[2:]] == [
        Decimal("0.167785"),  # 50 / 298
        Decimal("0.745"),  # 298 / 400
        Decimal("0.667785"),  # 199.00 / 298
        Decimal("49.75"),  # 199.00 / 4
        0,
        0,
    ]


def test_a_rate_whose_divisor_is_zero_is_null(shop: SandboxAccount, pipeline: Pipeline) -> None:
    set_day(shop, recipients=5, bounced=5)
    pipeline.run("flow_report", DAY)
    pipeline.run("flow_metrics", DAY)
    assert pipeline.rows("SELECT open_rate, revenue_per_recipient, bounce_rate FROM flow_metrics") == [(None, None, 1)]


def test_restated_values_change_and_the_older_ones_stay_readable(shop: SandboxAccount, pipeline: Pipeline) -> None:
    set_day(shop, "2025-03-11", recipients=10, conversion_value=5)
    pipeline.run("flow_report", "2025-03-10", "2025-03-11")
    pipeline.run("flow_metrics", "2025-03-10", "2025-03-11")
    untouched = pipeline.rows("SELECT xmin::text FROM flow_report WHERE date = '2025-03-11'")
    set_day(shop, recipients=100, delivered=98, opens_unique=49, conversions=4, conversion_value=150.1)
    pipeline.run("flow_report", "2025-03-10", "2025-03-11")
    pipeline.run("flow_metrics", "2025-03-10", "2025-03-11")
    assert pipeline.rows("SELECT xmin::text FROM flow_report WHERE date = '2025-03-11'") == untouched
    values = pipeline.rows("SELECT conversion_value FROM flow_metrics ORDER BY date")
    assert values == [Decimal("150.1"), 5]
    history = pipeline.rows(
        "SELECT conversion_value, coalesce(valid_to = lead(valid_from) OVER (ORDER BY valid_from), valid_to IS NULL) "
        "FROM flow_report_history WHERE date = '2025-03-10' ORDER BY valid_from"
    )
    assert history == [(Decimal("120.35"), True), (Decimal("150.1"), True)]


def test_values_that_klaviyo_no_longer_returns_leave_the_tables_and_stay_in_the_history(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    for asset in ("flow_report", "flow_metrics"):
        pipeline.run(asset, DAY)
    set_day(shop, recipients=0)
    for asset in ("flow_report", "flow_metrics"):
        pipeline.run(asset, DAY)
    assert pipeline.rows("SELECT 1 FROM flow_report UNION ALL SELECT 1 FROM flow_metrics") == []
    assert pipeline.rows("SELECT conversion_value, valid_to IS NULL FROM flow_report_history") == [
        (Decimal("120.35"), False)
    ]
    assert pipeline.rows("SELECT rows_deleted FROM sync_windows") == [1, 1]


def test_syncing_the_same_report_again_changes_no_row(shop: SandboxAccount, pipeline: Pipeline) -> None:
    tables = ("flow_report", "flow_report_superseded", "flow_metrics")
    for _ in range(2):
        before = pipeline.versions(*tables)
        pipeline.run("flow_report", "2025-03-08", "2025-03-12")
        pipeline.run("flow_metrics", "2025-03-08", "2025-03-12")
    assert pipeline.versions(*tables) == before


def test_an_empty_report_is_synced_without_rows(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flow_report", "2025-05-01", "2025-05-02")
    pipeline.run("flow_metrics", "2025-05-01", "2025-05-02")
    for entity in ("flow_report", "flow_metrics"):
        assert pipeline.rows("SELECT status, rows_fetched FROM sync_windows WHERE entity = %s", entity) == [
            ("synced", 0),
            ("synced", 0),
        ]


def test_metrics_of_a_day_without_a_synced_report_stay_missing(shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flow_report", DAY)
    pipeline.run("flow_metrics", DAY, "2025-03-12")
    assert pipeline.ledger("flow_metrics") == [(DAY, "synced")]


@pytest.mark.parametrize("zero_groups", [True, False])
def test_groups_with_only_zeros_are_not_stored(zero_groups: bool, shop: SandboxAccount, pipeline: Pipeline) -> None:
    shop.zero_groups = zero_groups
    set_day(shop, message="silent", recipients=0)
    pipeline.run("flow_report", DAY, "2025-03-12")
    assert pipeline.rows("SELECT flow_message_id, date FROM flow_report") == [("M1", date(2025, 3, 10))]


@pytest.mark.parametrize("offset", ["zone", "utc", "instant"])
def test_the_calendar_date_counts_whatever_offset_the_response_has(
    offset: Any, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop("Asia/Kolkata", report_offset=offset)
    set_day(shop, recipients=7)
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run("flow_report", "2025-03-09", "2025-03-11")
        assert pipeline.rows("SELECT date FROM flow_report") == [date(2025, 3, 10)]


def test_a_report_of_several_pages_is_complete(shop: SandboxAccount, pipeline: Pipeline) -> None:
    shop.report_page_size = 4
    for number in range(10):
        set_day(shop, message=f"N{number}", recipients=number + 1)
    pipeline.run("flow_report", DAY)
    assert pipeline.rows("SELECT count(*), sum(recipients) FROM flow_report") == [(11, 155)]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_failed_report_leaves_the_days_unchanged(page: int, shop: SandboxAccount, pipeline: Pipeline) -> None:
    pipeline.run("flow_report", DAY)
    before = pipeline.versions("flow_report", "flow_report_superseded")
    shop.report_page_size = 4
    for number in range(10):
        set_day(shop, message=f"N{number}", recipients=number + 1)
    pipeline.server.faults.add(path_starts("/api/flow-series-reports"), Fault(status=500), times=5, skip=page)
    pipeline.fail("flow_report", DAY, "2025-03-11")
    assert pipeline.versions("flow_report", "flow_report_superseded") == before
    assert pipeline.ledger("flow_report") == [(DAY, "synced"), ("2025-03-11", "failed")]
    pipeline.run("flow_report", DAY, "2025-03-11")
    assert pipeline.one("SELECT count(*) FROM flow_report") == 11


def test_flows_of_a_report_that_the_table_lacks_are_looked_up_once(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "flows", "KNOWN", utc("2025-03-10T12:00:00"), name="Known")
    set_day(shop, flow="KNOWN", recipients=1)
    pipeline.run("flows", DAY)
    with pipeline.requested() as requests:
        for _ in range(2):
            pipeline.run("flow_report", DAY)
    assert [request.path for request in requests if request.endpoint == "get_flow"] == ["/api/flows/F1"]
    pipeline.run("flow_metrics", DAY)
    named = pipeline.rows("SELECT flow_id, flow_name, flow_status, trigger_type FROM flow_metrics ORDER BY flow_id")
    assert named == [("F1", "Welcome", "live", "Metric"), ("KNOWN", "Known", None, None)]


def test_a_flow_that_no_longer_exists_is_looked_up_once_and_keeps_its_values(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    shop.delete("flows", "F1")
    with pipeline.requested() as requests:
        for _ in range(2):
            pipeline.run("flow_report", DAY)
    assert [request.status for request in requests if request.endpoint == "get_flow"] == [404]
    assert pipeline.rows("SELECT entity, id FROM lookup_misses") == [("flows", "F1")]
    pipeline.run("flow_metrics", DAY)
    assert pipeline.rows("SELECT flow_id, flow_name, recipients FROM flow_metrics") == [("F1", None, 100)]


def test_a_renamed_flow_has_its_latest_name_on_every_day(shop: SandboxAccount, pipeline: Pipeline) -> None:
    set_day(shop, "2025-03-11", recipients=1)
    pipeline.run("flow_report", DAY, "2025-03-11")
    pipeline.run("flow_metrics", DAY, "2025-03-11")
    put(shop, "flows", "F1", utc("2025-03-12T12:00:00"), name="Renamed")
    pipeline.run("flows", "2025-03-12")
    pipeline.run("flow_metrics", "2025-03-11")
    assert pipeline.rows("SELECT flow_name FROM flow_metrics") == ["Renamed", "Renamed"]


def test_a_time_zone_that_is_not_the_accounts_fails_reports_before_any_request_but_not_entities(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop("America/New_York")
    set_day(shop, recipients=7)
    put(shop, "flows", "F1", utc("2025-03-10T12:00:00"))
    with pipeline_on(migrated, shop, monkeypatch, timezone="UTC") as pipeline:
        with pipeline.requested() as requests:
            why = pipeline.fail("flow_report", DAY)
        assert "Set KLAVIYO_TIMEZONE=America/New_York" in why
        assert not [request for request in requests if "report" in request.path]
        assert pipeline.ledger("flow_report") == [(DAY, "failed")]
        run = pipeline.run("flows", DAY)
        assert pipeline.ids("flows") == ["F1"]
        messages = [entry.user_message for entry in pipeline.instance.all_logs(run.run_id)]
        assert any("Set KLAVIYO_TIMEZONE=America/New_York" in line for line in messages)


def test_the_run_that_binds_a_second_schema_to_an_account_warns_once(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warnings(pipeline: Pipeline) -> list[str]:
        run = pipeline.run("flows", DAY)
        lines = [entry.user_message for entry in pipeline.instance.all_logs(run.run_id)]
        return [line for line in lines if "count it twice" in line]

    with pipeline_on(migrated, empty_shop(), monkeypatch) as pipeline:
        assert warnings(pipeline) == []
        migrate(migrated, "again", SQL_DIR)
        pipeline.configure(slug="again")
        [warned] = warnings(pipeline)
        assert warned.startswith("Klaviyo account SHOP01 is already in schema shop, and is now also in again: ")
        assert warnings(pipeline) == []


def test_the_old_name_of_the_time_zone_fails_no_report_and_names_are_stored_as_configured(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop("US/Eastern")
    set_day(shop, recipients=7)
    put(shop, "flows", "F1", utc("2025-03-10T12:00:00"))
    with pipeline_on(migrated, shop, monkeypatch, timezone="America/New_York") as pipeline:
        pipeline.run("flow_report", DAY)
        assert pipeline.rows("SELECT date::text, recipients FROM flow_report") == [(DAY, 7)]
        assert pipeline.rows("SELECT timezone, window_timezone FROM account") == [("US/Eastern", "America/New_York")]


def test_the_conversion_metric_is_stored_with_the_values_and_reported(shop: SandboxAccount, pipeline: Pipeline) -> None:
    result = pipeline.run("flow_report", DAY)
    for table in ("flow_report", "sync_windows", "account"):
        assert pipeline.one(f"SELECT conversion_metric_id FROM {table}") == "RPlacd"
    [event] = result.get_asset_materialization_events()
    assert "RPlacd" in str(event.materialization.metadata["conversion_metric"].value)


def test_values_of_another_conversion_metric_are_stored_beside_the_earlier_values(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = generate_account(5, flows=12, campaigns=0, forms=0, segments=0, timezone="UTC")
    shop.api_keys = empty_shop().api_keys
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run("flow_report", DAY, "2025-03-20")
        orders = pipeline.one("SELECT sum(conversions) FROM flow_report")
        pipeline.configure(conversion_metric_id="RChkot")
        pipeline.run("flow_report", DAY, "2025-03-20")
        by_metric = "SELECT conversion_metric_id, sum(conversions) FROM flow_report GROUP BY 1 ORDER BY 1"
        assert pipeline.rows(by_metric) == [("RChkot", 2 * orders), ("RPlacd", orders)]
        assert orders > 0


def test_a_configured_metric_without_any_statistics_fails_and_names_the_setting_to_change(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    pipeline.configure(conversion_metric_id="ROpend")
    assert "KLAVIYO_CONVERSION_METRIC_ID" in pipeline.fail("flow_report", DAY)


def test_the_values_of_today_are_synced_too_and_are_not_settled(shop: SandboxAccount, pipeline: Pipeline) -> None:
    today = datetime.now(UTC).date()
    set_day(shop, today.isoformat(), recipients=3)
    pipeline.run("flow_report", (today - timedelta(days=1)).isoformat(), today.isoformat())
    assert pipeline.rows("SELECT date, recipients FROM flow_report") == [(today, 3)]
    states = pipeline.rows(
        "SELECT state FROM window_states WHERE entity = 'flow_report' AND state <> 'missing' ORDER BY window_start"
    )
    assert states == ["synced", "open"]
