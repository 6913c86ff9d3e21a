"""What is asked for a window, and for a census."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from klaviyo_pipeline.klaviyo.entities import LISTINGS
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS, CUT_OVERLAP, FLOWS, FORMS, SEGMENTS, Listing

from .fakes import NOON

START = datetime(2026, 6, 1, tzinfo=UTC)
END = datetime(2026, 6, 2, tzinfo=UTC)


def filters(listing: Listing, start: datetime | None, end: datetime | None) -> list[str | None]:
    return [dict(chain.params).get("filter") for chain in listing.chains(start, end, NOON)]


def bounds(start: datetime, end: datetime) -> str | None:
    (only,) = filters(FORMS, start, end)
    return only


def test_flows_are_asked_for_current_and_archived_with_an_overlap() -> None:
    window = "greater-or-equal(updated,2026-05-31T23:59:58Z),less-than(updated,2026-06-02T00:00:02Z)"
    assert filters(FLOWS, START, END) == [
        f"and(equals(archived,false),{window})",
        f"and(equals(archived,true),{window})",
    ]


def test_campaigns_are_asked_for_by_channel_and_archived() -> None:
    assert filters(CAMPAIGNS, None, None) == [
        f"and(equals(messages.channel,'{channel}'),equals(archived,{archived}))"
        for channel in ("email", "sms", "mobile_push")
        for archived in ("false", "true")
    ]


def test_segments_take_a_lower_bound_alone() -> None:
    assert filters(SEGMENTS, START, END) == ["greater-than(updated,2026-05-31T23:59:58Z)"]


@pytest.mark.parametrize("listing", [FORMS, SEGMENTS])
def test_a_census_without_fixed_conditions_has_no_filter(listing: Listing) -> None:
    assert filters(listing, None, None) == [None]


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_every_chain_asks_for_a_sort_and_a_page_size_and_never_for_fields(listing: Listing) -> None:
    for chain in listing.chains(START, END, NOON):
        params = dict(chain.params)
        assert (params["sort"], params["page[size]"]) == (listing.sort, str(listing.page_size))
        assert set(params) <= {"filter", "sort", "page[size]", "include"}
        assert params.get("include") == {"flows": "flow-actions", "campaigns": "campaign-messages"}.get(listing.entity)


def test_the_upper_bound_stays_a_minute_behind_now() -> None:
    last = NOON - timedelta(seconds=62)
    assert "less-than(updated_at,2026-07-01T11:59:00Z)" in str(bounds(START, last))
    assert "less-than" not in str(bounds(START, last + timedelta(microseconds=1)))
    assert "less-than" not in str(bounds(START, NOON + timedelta(days=1)))


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(seconds=30), timedelta(days=3)])
def test_the_lower_bound_stays_a_minute_behind_now(ahead: timedelta) -> None:
    start = NOON + ahead
    assert bounds(start, start + timedelta(hours=1)) == "greater-or-equal(updated_at,2026-07-01T11:59:00Z)"


def test_one_side_of_a_window_may_be_open() -> None:
    assert filters(FORMS, START, None) == ["greater-or-equal(updated_at,2026-05-31T23:59:58Z)"]
    assert filters(FORMS, None, END) == ["less-than(updated_at,2026-06-02T00:00:02Z)"]


def test_bounds_of_another_zone_are_sent_as_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    asked = bounds(datetime(2026, 6, 1, tzinfo=berlin), datetime(2026, 6, 2, tzinfo=berlin))
    assert "greater-or-equal(updated_at,2026-05-31T21:59:58Z)" in str(asked)


@pytest.mark.parametrize("end", [START, START - timedelta(days=1)])
def test_an_empty_window_is_refused(end: datetime) -> None:
    with pytest.raises(ValueError, match="empty window"):
        FLOWS.chains(START, end, NOON)


def test_the_columns_are_those_of_the_tables() -> None:
    names = {entity: [column.name for column in listing.columns] for entity, listing in LISTINGS.items()}
    times = ["created_at", "updated_at", "raw"]
    assert names == {
        "flows": ["id", "name", "status", "archived", "trigger_type", *times],
        "campaigns": ["id", "name", "status", "archived", "channel", "scheduled_at", "send_time", *times],
        "forms": ["id", "name", "status", "ab_test", *times],
        "segments": ["id", "name", "is_active", "is_processing", "is_starred", "definition", *times],
    }


def test_a_long_listing_without_an_upper_bound_is_cut_into_spans_that_leave_nothing_out() -> None:
    chains = SEGMENTS.chains(NOON - timedelta(days=365), NOON, NOON)
    assert len(chains) == 4
    assert chains[0].since == NOON - timedelta(days=365)
    cuts = [chain.since + CUT_OVERLAP for chain in chains[1:] if chain.since is not None]
    assert [chain.until for chain in chains] == [*cuts, None]
    asked = [dict(chain.params)["filter"] for chain in chains]
    assert asked[1] == f"greater-than(updated,{(chains[1].since - timedelta(seconds=2)):%Y-%m-%dT%H:%M:%SZ})"  # type: ignore[operator]
    border = chains[0].until
    assert border is not None
    assert [chain.covers(border) for chain in chains[:3]] == [False, True, False]
    assert [chain.covers(border - timedelta(microseconds=1)) for chain in chains[:3]] == [True, True, False]
    assert [chain.covers(border - timedelta(days=2)) for chain in chains[:3]] == [True, False, False]


def test_what_is_left_of_a_chain_begins_a_day_before_it_is_cut_short_and_ends_where_it_did() -> None:
    for chain in SEGMENTS.chains(NOON - timedelta(days=365), NOON, NOON)[-2:]:
        assert chain.since is not None
        at = chain.since + timedelta(days=40)
        rest = SEGMENTS.rest(chain, at, NOON)
        assert (rest.since, rest.until) == (at - CUT_OVERLAP, chain.until)
        asked = dict(rest.params)
        assert asked.pop("filter") == f"greater-than(updated,{rest.since - timedelta(seconds=2):%Y-%m-%dT%H:%M:%SZ})"
        assert asked == {name: value for name, value in chain.params if name != "filter"}


def test_only_long_listings_without_an_upper_bound_are_cut() -> None:
    assert len(SEGMENTS.chains(NOON - timedelta(days=89), NOON, NOON)) == 1
    assert len(SEGMENTS.chains(None, None, NOON)) == 1
    assert len(FORMS.chains(NOON - timedelta(days=365), NOON, NOON)) == 1
