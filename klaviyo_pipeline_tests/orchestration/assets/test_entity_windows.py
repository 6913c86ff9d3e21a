"""What a window syncs: every object whose `updated` is in it, to the microsecond, and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from klaviyo_pipeline.klaviyo.escape import unescape
from klaviyo_pipeline.sandbox import listing_endpoints
from klaviyo_pipeline.sandbox.faults import Fault
from klaviyo_pipeline.sandbox.filter_matching import slips_through
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, key_of, pipeline_on, put, truth, utc

pytestmark = pytest.mark.slow

ENTITIES = ("flows", "campaigns", "forms", "segments")
DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")


@pytest.mark.parametrize("asset", ["flows", "flow_report", "flow_metrics"])
def test_a_range_that_ends_before_it_begins_is_an_error_of_one_line(asset: str, pipeline: Pipeline) -> None:
    why = pipeline.fail(asset, "2025-03-20", "2025-03-10")
    assert why == (
        "klaviyo_pipeline.windows.EmptyRange: The range of windows 2025-03-20 to 2025-03-10 is empty: put the "
        "earlier window first."
    )


@pytest.mark.parametrize(
    ("entity", "zone"),
    [
        ("flows", "America/New_York"),
        ("campaigns", "Pacific/Auckland"),
        ("forms", "America/New_York"),
        ("segments", "Pacific/Auckland"),
    ],
)
def test_windows_sync_every_object_that_was_updated_in_them(
    entity: str, zone: str, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = generate_account(11, flows=70, campaigns=120, forms=12, segments=30, timezone=zone)
    shop.api_keys = empty_shop().api_keys
    shop.clock = lambda: utc("2025-07-15T12:00:00")
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run(entity, "2025-02-01", "2025-06-30")
        zoned = pipeline.account.zone
        since, until = (datetime(2025, month, 1, tzinfo=zoned).astimezone(UTC) for month in (2, 7))
        expected = truth(shop, entity, since, until)
        assert len(expected) > 2
        assert pipeline.stored(entity) == expected


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_window_includes_its_start_and_excludes_its_end(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    start, end = utc("2025-03-10T00:00:00"), utc("2025-03-11T00:00:00")
    step = timedelta(microseconds=1) if entity == "campaigns" else timedelta(seconds=1)
    put(shop, entity, "before", start - step)
    put(shop, entity, "first", start)
    put(shop, entity, "last", end - step)
    put(shop, entity, "after", end)
    pipeline.run(entity, DAY)
    assert pipeline.ids(entity) == ["first", "last"]


@pytest.mark.parametrize("entity", ENTITIES)
def test_adjacent_windows_count_an_object_on_their_border_once(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, entity, "border", utc("2025-03-11T00:00:00"))
    pipeline.run(entity, "2025-03-10", "2025-03-11")
    assert pipeline.rows("SELECT rows_fetched FROM sync_windows ORDER BY window_start") == [0, 1]


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("America/New_York", "2025-03-09", "2025-03-09T05:00:00", 23),
        ("America/New_York", "2025-11-02", "2025-11-02T04:00:00", 25),
        ("Pacific/Auckland", "2025-09-28", "2025-09-27T12:00:00", 23),
        ("Pacific/Auckland", "2025-04-06", "2025-04-05T11:00:00", 25),
    ],
)
def test_a_day_on_which_the_clocks_change_has_23_or_25_hours(
    zone: str, day: str, start: str, hours: int, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop(zone)
    begin, second = utc(start), timedelta(seconds=1)
    end = begin + timedelta(hours=hours)
    for id, moment in {"before": begin - second, "first": begin, "last": end - second, "after": end}.items():
        put(shop, "flows", id, moment)
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        pipeline.run("flows", day)
        assert pipeline.ids("flows") == ["first", "last"]
        assert pipeline.one("SELECT window_end - window_start FROM sync_windows") == timedelta(hours=hours)


def test_an_hourly_window_covers_its_hour(pipeline: Pipeline, shop: SandboxAccount) -> None:
    pipeline.configure(sync_window="hourly")
    for minute in (59, 60, 119, 120):
        put(shop, "forms", f"m{minute:03}", utc("2025-03-10T12:00:00") + timedelta(minutes=minute))
    pipeline.run("forms", "2025-03-10-13:00")
    assert pipeline.ids("forms") == ["m060", "m119"]


@pytest.mark.parametrize(("entity", "page"), [("flows", 50), ("campaigns", 100), ("forms", 100), ("segments", 10)])
def test_objects_of_the_same_second_are_complete_across_a_page_border(
    entity: str, page: int, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    created = "created" if entity in ("flows", "segments") else "created_at"
    for number in range(page + 3):
        put(shop, entity, f"same{number:03}", NOON, **{created: NOON - timedelta(seconds=number // 3)})
    pipeline.run(entity, DAY)
    assert len(pipeline.ids(entity)) == page + 3


def test_archived_campaigns_in_any_order_are_complete(shop: SandboxAccount, pipeline: Pipeline) -> None:
    for number in range(230):
        put(shop, "campaigns", f"c{number:03}", NOON + timedelta(seconds=number), archived=True)
    pipeline.run("campaigns", DAY)
    assert pipeline.stored("campaigns") == truth(shop, "campaigns")


def test_an_object_that_changes_while_pages_are_read_is_stored_as_returned_and_never_lost(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    for number in range(60):
        put(shop, "flows", f"f{number:02}", NOON + timedelta(seconds=number), archived=False)
    changed: list[str] = []

    def change(request: Any) -> bool:
        if "page[cursor]" in request.query_params and not changed:
            # One object of the page that was read, and one of the next page.
            for id in ("f00", "f59"):
                put(shop, "flows", id, NOON + timedelta(hours=1), name="moved")
                changed.append(id)
        return False

    pipeline.server.faults.add(change, Fault())
    pipeline.run("flows", DAY)
    assert pipeline.ids("flows") == sorted(shop.objects["flows"])
    assert [pipeline.stored("flows")[id][0] for id in changed] == ["flows f00", "moved"]
    pipeline.run("flows", DAY)
    assert pipeline.stored("flows") == truth(shop, "flows")


def test_an_object_on_two_pages_is_one_row(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        put(shop, "flows", f"f{number:03}", NOON + timedelta(seconds=number), archived=False)
    output: list[Any] = []
    true_page = listing_endpoints.cut_page

    def overlapping(*requested: Any, **options: Any) -> Any:
        page, cursor = true_page(*requested, **options)
        repeated = output[-3:]
        output.extend(page)
        return [*repeated, *page], cursor

    monkeypatch.setattr(listing_endpoints, "cut_page", overlapping)
    pipeline.run("flows_census")
    assert pipeline.stored("flows") == truth(shop, "flows")
    assert pipeline.one("SELECT count(*) FROM flows_history") == 120


def test_greater_than_that_includes_its_bound_adds_no_row_and_repeats_none(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    start = utc("2025-03-10T00:00:00")
    slipping = [id for number in range(40) if slips_through(id := f"s{number}")]
    for id in slipping:
        put(shop, "segments", id, start - timedelta(seconds=2))
    put(shop, "segments", "inside", start)
    pipeline.run("segments", DAY)
    assert slipping
    assert pipeline.ids("segments") == ["inside"]


def test_segments_have_only_a_lower_bound_and_later_ones_are_dropped(shop: SandboxAccount, pipeline: Pipeline) -> None:
    for number in range(25):
        put(shop, "segments", f"later{number}", NOON + timedelta(days=1 + number))
    put(shop, "segments", "now", NOON)
    pipeline.run("segments", DAY)
    assert pipeline.ids("segments") == ["now"]


@pytest.mark.parametrize("entity", ENTITIES)
def test_the_open_window_includes_updates_of_a_minute_ago(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    put(shop, entity, "fresh", now - timedelta(minutes=1))
    pipeline.run(entity, (now - timedelta(days=1)).date().isoformat(), now.date().isoformat())
    assert pipeline.ids(entity) == ["fresh"]


@pytest.mark.parametrize("entity", ENTITIES)
def test_an_object_dated_ahead_is_in_no_window_and_moves_no_other(
    entity: str, shop: SandboxAccount, pipeline: Pipeline
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    put(shop, entity, "ahead", now + timedelta(days=400))
    yesterday, today = (now - timedelta(days=1)).date().isoformat(), now.date().isoformat()
    pipeline.run(entity, yesterday, today)
    assert pipeline.ids(entity) == []
    through = pipeline.one("SELECT synced_through FROM sync_status WHERE entity = %s", entity)
    assert now <= through <= datetime.now(UTC)
    assert pipeline.ledger(entity)[-1][0] == today


def test_the_open_window_counts_as_synced_only_if_it_was_requested_after_its_end(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    today = datetime.now(UTC).date().isoformat()
    pipeline.run("forms", today)
    assert pipeline.rows("SELECT state FROM window_states WHERE entity = 'forms' AND state <> 'missing'") == ["open"]


def test_times_with_any_offset_fall_into_the_window_of_their_instant(shop: SandboxAccount, pipeline: Pipeline) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    put(shop, "flows", "before", datetime(2025, 3, 10, 5, 29, 59, tzinfo=india))
    put(shop, "flows", "inside", datetime(2025, 3, 10, 5, 30, tzinfo=india))
    shop.put("flows", "spaced", updated="2025-03-10 23:59:59+00:00")
    pipeline.run("flows", DAY)
    assert pipeline.ids("flows") == ["inside", "spaced"]


def test_an_object_without_updated_is_in_no_window_and_is_synced_by_the_census(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    shop.put("flows", "timeless", name="No time", updated=None)
    pipeline.run("flows", DAY)
    assert pipeline.ids("flows") == []
    pipeline.run("flows_census")
    assert pipeline.stored("flows") == truth(shop, "flows")


def test_a_campaign_in_several_channels_is_one_row_with_the_first_channel(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "campaigns", "both", NOON, channels=["mobile_push", "sms"])
    put(shop, "campaigns", "all", NOON, channels=["sms", "mobile_push", "email"], archived=True)
    put(shop, "campaigns", "push", NOON, channels=["mobile_push"])
    for _ in range(2):
        pipeline.run("campaigns", DAY)
        assert pipeline.rows("SELECT id, channel FROM campaigns ORDER BY id") == [
            ("all", "email"),
            ("both", "sms"),
            ("push", "mobile_push"),
        ]
    assert pipeline.one("SELECT count(*) FROM campaigns_history") == 3


NAMES = {
    "nul": "before\0after",
    "lone": "half \ud83d of a pair",
    "escape": "\u241bu0000 is only text",
    "sql": "'); DROP TABLE flows; --",
    "copy": "\\N\t\\.\n",
    "emoji": "🎉 naïve — 日本語",
    "empty": "",
    "long": "x" * 1_000_000,
}


def test_every_name_is_stored_intact(shop: SandboxAccount, pipeline: Pipeline) -> None:
    for id, name in NAMES.items():
        put(shop, "flows", id, NOON, name=name)
    pipeline.run("flows", DAY)
    stored = dict(pipeline.rows("SELECT id, name FROM flows"))
    assert {id: unescape(name) for id, name in stored.items()} == NAMES
    in_raw = dict(pipeline.rows("SELECT id, raw->'attributes'->>'name' FROM flows"))
    assert in_raw == stored


def test_nulls_stay_null_and_undeclared_attributes_are_kept(shop: SandboxAccount, pipeline: Pipeline) -> None:
    put(shop, "flows", "bare", NOON, name=None, status=None, archived=None, trigger_type=None, legacy={"score": 1.5})
    pipeline.run("flows", DAY)
    assert pipeline.rows("SELECT name, status, archived, trigger_type FROM flows") == [(None, None, None, None)]
    assert pipeline.one("SELECT raw->'attributes'->'legacy' FROM flows") == {"score": 1.5}


def test_an_empty_window_is_a_row_of_the_ledger(pipeline: Pipeline) -> None:
    pipeline.run("flows", DAY)
    assert pipeline.rows("SELECT status, rows_fetched, attempts, error FROM sync_windows") == [("synced", 0, 1, None)]


def test_the_key_of_another_account_is_refused_before_anything_is_written(
    shop: SandboxAccount, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, "flows", "f", NOON)
    pipeline.run("flows", DAY)
    shop.id = "OTHER1"
    shop.api_keys = empty_shop().api_keys
    monkeypatch.setenv("KLAVIYO_API_KEY", key_of(shop))
    put(shop, "flows", "g", NOON)
    assert "belongs to Klaviyo account SHOP01" in pipeline.fail("flows", DAY)
    assert pipeline.ids("flows") == ["f"]


def test_of_many_parse_warnings_a_few_are_logged_and_the_others_counted(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    for number in range(30):
        put(shop, "forms", f"W{number:02}", utc("2025-02-01T12:00:00"), status=7)
    result = pipeline.run("forms", "2025-02-01")
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["parse_warnings"].value == 30
    assert len(pipeline.ids("forms")) == 30
