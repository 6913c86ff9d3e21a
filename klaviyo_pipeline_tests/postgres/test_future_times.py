"""After a database clock was ahead: its rows are found, and after `reset_clock` true observations win again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from klaviyo_pipeline.klaviyo.errors import QuotaSpent
from klaviyo_pipeline.klaviyo.rates import GET_FLOWS
from klaviyo_pipeline.postgres.future_times import ahead_of_clock, reset_clock
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, figures, flow, minute, synced

AHEAD = timedelta(days=1)


def found(store: Store) -> dict[str, int]:
    with store.engine.connect() as connection:
        return ahead_of_clock(connection, SLUG)


def reset(store: Store) -> dict[str, int]:
    with store.engine.begin() as connection:
        return reset_clock(connection, SLUG)


@pytest.fixture
def now(store: Store) -> datetime:
    moment: datetime = store.value("SELECT clock_timestamp()")
    return moment


def test_a_row_observed_ahead_of_the_clock_loses_to_the_present_once_it_is_reset(store: Store, now: datetime) -> None:
    store.merge("flows", [flow("F1", minute(0), name="before")])
    store.merge("flows", [flow("F1", now + AHEAD, name="ahead")])
    store.merge("flows", [flow("F1", now + 2 * AHEAD, name="more ahead", deleted_at=now + 2 * AHEAD)])
    store.merge("flows", [flow("F1", now, name="true")])
    assert store.value("SELECT name FROM flows") == "more ahead"
    assert found(store) == {"flows": 1}

    assert reset(store) == {"flows": 1, "flows_superseded": 2}
    assert found(store) == {}
    assert store.value("SELECT deleted_at = observed_at AND observed_at < clock_timestamp() FROM flows")
    later: datetime = store.value("SELECT clock_timestamp()")
    assert store.merge("flows", [flow("F1", later, name="true")]).updated == 1
    states = store.history("F1")
    assert [name for name, _, _ in states] == ["before", "ahead", "more ahead", "true"]
    assert [until for _, _, until in states] == [*(since for _, since, _ in states[1:]), None]
    assert reset(store) == {}


def test_only_requests_ahead_of_the_clock_are_due_again(store: Store, now: datetime) -> None:
    store.record("flow_report", synced(0, now - AHEAD), replace(synced(1, now), asked_at=now + AHEAD))
    store.merge("flow_report", [figures("F1", synced(1, now).window.start.date(), now + AHEAD)])
    for began in (now - AHEAD, now + AHEAD):
        store.run("INSERT INTO census_runs (entity, started_at, status) VALUES ('flows', :at, 'complete')", at=began)
        store.run("INSERT INTO lookup_misses VALUES ('flows', :id, :at)", id=str(began), at=began)
        store.run(
            "INSERT INTO conversion_refusals VALUES ('flow series', :id, '{opens}', :at)", id=str(began), at=began
        )
    tables = ("flow_report", "sync_windows", "census_runs", "lookup_misses", "conversion_refusals")
    assert found(store) == dict.fromkeys(tables, 1)
    assert reset(store) == dict.fromkeys(tables, 1)
    assert store.ledger("flow_report", "window_start") == [(synced(0, now).window.start,)]
    assert store.values("SELECT started_at FROM census_runs") == [now - AHEAD]


def test_requests_do_not_wait_for_slots_ahead_of_the_clock_once_they_are_reset(store: Store) -> None:
    PostgresPacer(store.engine, SLUG).reserve(GET_FLOWS)
    before = store.value("SELECT slots FROM api_pacing")
    PostgresPacer(store.engine, SLUG, clock="clock_timestamp() + interval '1 day'").reserve(GET_FLOWS)
    with pytest.raises(QuotaSpent):
        PostgresPacer(store.engine, SLUG).reserve(GET_FLOWS)
    assert reset(store) == {"api_pacing": 1}
    assert store.value("SELECT slots FROM api_pacing") == before
    assert PostgresPacer(store.engine, SLUG).reserve(GET_FLOWS).wait < 5
