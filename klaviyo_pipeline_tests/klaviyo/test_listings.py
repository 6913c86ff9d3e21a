"""The queries for a window and for a census."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from klaviyo_pipeline.catalog import ENTITIES
from klaviyo_pipeline.klaviyo.listing_revisions import FLAT_CAMPAIGNS
from klaviyo_pipeline.klaviyo.listings import FLOWS, FORMS, SEGMENTS, SPLIT_OVERLAP, Listing

from .fakes import NOON

START = datetime(2026, 6, 1, tzinfo=UTC)
END = datetime(2026, 6, 2, tzinfo=UTC)


def filters(listing: Listing, start: datetime | None, end: datetime | None) -> list[str | None]:
    return [dict(query.params).get("filter") for query in listing.queries(start, end, NOON)]


def bounds(start: datetime, end: datetime) -> str | None:
    (only,) = filters(FORMS, start, end)
    return only


def test_flows_are_requested_current_and_archived_with_an_overlap() -> None:
    window = "greater-or-equal(updated,2026-05-31T23:59:58Z),less-than(updated,2026-06-02T00:00:02Z)"
    assert filters(FLOWS, START, END) == [
        f"and({window})",
        f"and(equals(archived,true),{window})",
    ]


def test_campaigns_are_requested_by_channel_and_archived() -> None:
    assert filters(FLAT_CAMPAIGNS, None, None) == [
        filter
        for channel in ("email", "sms", "mobile_push")
        for current in [f"equals(messages.channel,'{channel}')"]
        for filter in (current, f"and({current},equals(archived,true))")
    ]


def test_segments_have_only_a_lower_bound() -> None:
    assert filters(SEGMENTS, START, END) == ["greater-than(updated,2026-05-31T23:59:58Z)"]


@pytest.mark.parametrize("listing", [FORMS, SEGMENTS])
def test_a_census_without_fixed_conditions_has_no_filter(listing: Listing) -> None:
    assert filters(listing, None, None) == [None]


@pytest.mark.parametrize("listing", ENTITIES.values(), ids=ENTITIES)
def test_every_query_has_a_stable_sort_and_a_page_size_and_only_templates_leave_out_fields(listing: Listing) -> None:
    for query in listing.queries(START, END, NOON):
        params = dict(query.params)
        order = "created_at" if listing is FORMS else "id"
        assert (params["sort"], params["page[size]"]) == (order, str(listing.page_size))
        chosen = {"fields[template]"} if listing.entity == "templates" else set()
        assert set(params) <= {"filter", "sort", "page[size]", "include"} | chosen
        assert params.get("include") == {
            "flows": "flow-actions",
            "campaigns": "campaign-audiences,campaign-messages",
        }.get(listing.entity)


def test_the_upper_bound_is_at_least_a_minute_before_now() -> None:
    last = NOON - timedelta(seconds=62)
    assert "less-than(updated_at,2026-07-01T11:59:00Z)" in str(bounds(START, last))
    assert "less-than" not in str(bounds(START, last + timedelta(microseconds=1)))
    assert "less-than" not in str(bounds(START, NOON + timedelta(days=1)))


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(seconds=30), timedelta(days=3)])
def test_the_lower_bound_is_at_least_a_minute_before_now(ahead: timedelta) -> None:
    start = NOON + ahead
    assert bounds(start, start + timedelta(hours=1)) == "greater-or-equal(updated_at,2026-07-01T11:59:00Z)"


def test_one_side_of_a_window_may_be_open() -> None:
    assert filters(FORMS, START, None) == ["greater-or-equal(updated_at,2026-05-31T23:59:58Z)"]
    assert filters(FORMS, None, END) == ["less-than(updated_at,2026-06-02T00:00:02Z)"]


def test_bounds_in_another_zone_are_sent_as_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    requested = bounds(datetime(2026, 6, 1, tzinfo=berlin), datetime(2026, 6, 2, tzinfo=berlin))
    assert "greater-or-equal(updated_at,2026-05-31T21:59:58Z)" in str(requested)


@pytest.mark.parametrize("end", [START, START - timedelta(days=1)])
def test_an_empty_window_is_refused(end: datetime) -> None:
    with pytest.raises(ValueError, match="is empty"):
        FLOWS.queries(START, end, NOON)


def test_the_columns_of_listings_match_the_tables() -> None:
    names = {entity: [column.name for column in listing.columns] for entity, listing in ENTITIES.items()}
    times = ["created_at", "updated_at", "raw"]
    assert names == {
        "flows": ["id", "name", "status", "archived", "trigger_type", *times],
        "campaigns": [
            *("id", "name", "status", "archived", "channel", "channels", "builder", "description", "color"),
            *("send_settings", "scheduled_at", "send_time", "created_at", "updated_at", "revision", "raw"),
        ],
        "forms": ["id", "name", "status", "ab_test", *times],
        "segments": ["id", "name", "is_active", "is_processing", "is_starred", "definition", *times],
        "lists": ["id", "name", "opt_in_process", *times],
        "templates": ["id", "name", "editor_type", *times],
    }


def test_a_long_listing_without_an_upper_bound_is_split_without_gaps_and_later_splits_are_shorter() -> None:
    queries = SEGMENTS.split(NOON - timedelta(days=365), NOON, NOON)
    assert len(queries) == 8
    begins = [query.since for query in queries]
    assert begins[0] == NOON - timedelta(days=365)
    splits = [since + SPLIT_OVERLAP for since in begins[1:] if since is not None]
    assert [query.until for query in queries] == [*splits, None]
    lengths = [later - earlier for earlier, later in pairwise([NOON - timedelta(days=365), *splits, NOON])]
    assert lengths == sorted(lengths, reverse=True)
    second = dict(queries[1].params)
    assert second["filter"] == f"greater-than(updated,{splits[0] - timedelta(days=1, seconds=2):%Y-%m-%dT%H:%M:%SZ})"
    assert second["sort"] == "updated"
    covering = [[query.covers(moment) for query in queries[:3]] for moment in (splits[0], splits[0] - SPLIT_OVERLAP)]
    assert covering == [[False, True, False], [True, True, False]]


def test_only_long_listings_without_an_upper_bound_are_split() -> None:
    assert SEGMENTS.split(NOON - timedelta(days=89), NOON, NOON) == []
    assert FORMS.split(NOON - timedelta(days=365), NOON, NOON) == []
