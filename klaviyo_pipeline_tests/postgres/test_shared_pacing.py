"""Request slots in Postgres: all processes of an account share its rates."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.errors import QuotaSpent
from klaviyo_pipeline.klaviyo.pacing import padded_windows
from klaviyo_pipeline.klaviyo.rates import GET_CAMPAIGNS, GET_FLOWS, QUERY_FLOW_SERIES, Endpoint
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline_tests.postgres.store import SLUG, Store

pytestmark = pytest.mark.slow

NEVER = 1e6
"""A longest wait, in seconds, that no test reaches."""


def slots(pacer: PostgresPacer, count: int, endpoint: Endpoint = GET_FLOWS) -> list[datetime]:
    return [pacer.reserve(endpoint).at for _ in range(count)]


def reserve(dsn: str, count: int, timezone: str = "UTC") -> list[datetime]:
    """Slots reserved over separate connections, with this time zone."""
    engine = create_engine(f"{dsn}?options=-c%20TimeZone%3D{timezone}")
    try:
        return slots(PostgresPacer(engine, SLUG, longest_wait=NEVER), count)
    finally:
        engine.dispose()


def assert_within_rates(taken: Sequence[datetime], endpoint: Endpoint = GET_FLOWS, scale: float = 1) -> None:
    """No period of a rate's padded length has more slots than the rate allows, and no two slots are the same."""
    ordered = sorted(taken)
    assert all(one < other for one, other in pairwise(ordered))
    for requests, seconds in padded_windows(endpoint, scale):
        spans = [(later - first).total_seconds() for first, later in zip(ordered, ordered[requests:], strict=False)]
        shortest = min(spans, default=seconds)
        assert shortest >= seconds - 1e-6, f"{requests + 1} slots within {shortest} s"


@pytest.fixture
def pacer(store: Store) -> PostgresPacer:
    return PostgresPacer(store.engine, SLUG, longest_wait=NEVER)


@pytest.mark.parametrize(("endpoint", "count"), [(GET_FLOWS, 200), (GET_CAMPAIGNS, 400), (QUERY_FLOW_SERIES, 240)])
def test_consecutive_slots_stay_within_every_rate(pacer: PostgresPacer, endpoint: Endpoint, count: int) -> None:
    taken = slots(pacer, count, endpoint)
    assert taken == sorted(taken)
    assert_within_rates(taken, endpoint)


def test_a_burst_is_free_and_no_slot_is_wasted(pacer: PostgresPacer) -> None:
    taken = slots(pacer, 130)
    assert (taken[2] - taken[0]).total_seconds() < 1
    [(_, second), (_, minute)] = padded_windows(GET_FLOWS, 1)
    needed = 2 * minute + 3 * second  # twice 60 slots, then 10 more: four bursts of up to three
    assert (taken[-1] - taken[0]).total_seconds() == pytest.approx(needed, abs=1)


def test_threads_with_connections_of_their_own_share_the_rate(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        taken = [at for part in pool.map(lambda _: reserve(store.dsn, 40), range(4)) for at in part]
    assert_within_rates(taken)


PROCESS = """
import sys
from klaviyo_pipeline.klaviyo.rates import GET_FLOWS
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
pacer = PostgresPacer(create_engine(sys.argv[1]), sys.argv[2], longest_wait=1e6)
for _ in range(60):
    print(pacer.reserve(GET_FLOWS).at.isoformat())
"""


def test_processes_share_the_rate(store: Store) -> None:
    command = [sys.executable, "-c", PROCESS, store.dsn, SLUG]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line for process in processes for line in process.communicate(timeout=120)[0].splitlines()]
    assert len(lines) == 120
    assert_within_rates([datetime.fromisoformat(line) for line in lines])


def test_sessions_of_different_time_zones_share_the_rate(store: Store) -> None:
    zones = ["Asia/Tokyo", "America/New_York", "Australia/Lord_Howe", "UTC"]
    taken = [at for _ in range(5) for zone in zones for at in reserve(store.dsn, 5, zone)]
    assert taken == sorted(taken)
    assert_within_rates(taken)


def test_slots_are_given_in_the_order_of_reservation(store: Store) -> None:
    """A process with many requests waits behind one that reserved before it."""
    greedy, modest = (PostgresPacer(store.engine, SLUG, longest_wait=NEVER) for _ in range(2))
    before = slots(greedy, 20)
    [between] = slots(modest, 1)
    after = slots(greedy, 20)
    assert before[-1] < between < after[0]
    assert_within_rates([*before, between, *after])


def test_a_restarted_process_continues_after_the_last_slot(store: Store) -> None:
    first = slots(PostgresPacer(store.engine, SLUG, longest_wait=NEVER), 30)
    second = slots(PostgresPacer(store.engine, SLUG, longest_wait=NEVER), 30)
    assert_within_rates(first + second)


def test_a_wait_counts_from_now_and_ends_at_the_slot(pacer: PostgresPacer) -> None:
    slots(pacer, 6)
    now = pacer.now()
    slot = pacer.reserve(GET_FLOWS)
    assert now + timedelta(seconds=slot.wait) == pytest.approx(slot.at, abs=timedelta(seconds=5))
    assert 0 < slot.wait < 2.5


def test_endpoints_do_not_wait_for_each_other(pacer: PostgresPacer) -> None:
    slots(pacer, 30)
    assert pacer.reserve(GET_CAMPAIGNS).wait == 0


def test_a_scale_multiplies_the_rates(store: Store) -> None:
    taken = slots(PostgresPacer(store.engine, SLUG, scale=10, longest_wait=NEVER), 200)
    assert_within_rates(taken, scale=10)
    assert (taken[-1] - taken[0]).total_seconds() < 30


def test_scale_zero_never_waits_and_keeps_slots_in_order(store: Store) -> None:
    pacer = PostgresPacer(store.engine, SLUG, scale=0)
    reserved = [pacer.reserve(GET_FLOWS) for _ in range(100)]
    assert max(slot.wait for slot in reserved) < 0.001
    assert all(one.at < other.at for one, other in pairwise(reserved))


def test_the_number_of_stored_slots_is_limited(store: Store, pacer: PostgresPacer) -> None:
    slots(pacer, 150)
    assert store.rows("SELECT cardinality(slots), array_lower(slots, 1) FROM api_pacing") == [(60, 1)]


@pytest.mark.parametrize("scale", [0, 1])
def test_a_block_holds_for_every_process_and_one_endpoint_only(store: Store, scale: float) -> None:
    one, other = (PostgresPacer(store.engine, SLUG, scale=scale, longest_wait=NEVER) for _ in range(2))
    one.reserve(GET_FLOWS)
    before = one.now()
    one.block(GET_FLOWS, 100)
    taken = slots(other, 10)
    assert taken[0] >= before + timedelta(seconds=100)
    assert taken == sorted(set(taken))
    assert other.reserve(GET_CAMPAIGNS).wait == 0


def test_an_endpoint_can_be_blocked_before_its_first_request(pacer: PostgresPacer) -> None:
    pacer.block(GET_FLOWS, 50)
    assert pacer.reserve(GET_FLOWS).wait == pytest.approx(50, abs=5)


def test_a_shorter_block_does_not_end_a_longer_one(pacer: PostgresPacer) -> None:
    pacer.block(GET_FLOWS, 500)
    pacer.block(GET_FLOWS, 5)
    assert pacer.reserve(GET_FLOWS).wait > 400


def stored_slots(store: Store) -> list[datetime]:
    stored: list[datetime] = store.value("SELECT slots FROM api_pacing")
    return stored


def test_a_wait_that_is_too_long_reserves_no_slot_and_says_when_the_quota_returns(store: Store) -> None:
    patient = PostgresPacer(store.engine, SLUG, longest_wait=NEVER)
    slots(patient, 90)
    before = stored_slots(store)
    hasty = PostgresPacer(store.engine, SLUG, longest_wait=10)
    with pytest.raises(QuotaSpent, match="quota is used up until") as refused:
        hasty.reserve(GET_FLOWS)
    assert stored_slots(store) == before
    assert refused.value.returns_at > before[-1]
    assert patient.reserve(GET_FLOWS).at == refused.value.returns_at


def test_the_daily_quota_of_a_report_is_kept(store: Store) -> None:
    pacer = PostgresPacer(store.engine, SLUG, longest_wait=2 * 3_600)
    slots(pacer, 225, QUERY_FLOW_SERIES)
    with pytest.raises(QuotaSpent):
        pacer.reserve(QUERY_FLOW_SERIES)


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another connection holds the lock on the endpoint's row."""
    with store.engine.begin() as connection:
        connection.execute(sa.text(f'SELECT * FROM "{SLUG}".api_pacing FOR UPDATE'))
        yield


def test_a_reservation_that_waited_for_the_row_sees_the_slots_taken_in_the_meantime(
    store: Store, pacer: PostgresPacer
) -> None:
    first = slots(pacer, 3)
    with ThreadPoolExecutor(6) as pool:
        with locked(store):
            waiting = [pool.submit(pacer.reserve, GET_FLOWS) for _ in range(6)]
        taken = [future.result().at for future in waiting]
    assert_within_rates(first + taken)


def test_the_clock_is_that_of_the_database(store: Store, pacer: PostgresPacer) -> None:
    before = store.value("SELECT clock_timestamp()")
    now = pacer.now()
    assert before <= now <= store.value("SELECT clock_timestamp()")
    assert now.tzinfo is not None


def test_a_reservation_is_one_statement_and_it_alone_does_not_wait_for_the_disk(store: Store) -> None:
    store.run(
        """
        CREATE TABLE commits (waits text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO "order".commits VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER UPDATE ON api_pacing FOR EACH ROW EXECUTE FUNCTION note();
        """
    )
    store.run(f'ALTER DATABASE "{store.engine.url.database}" SET synchronous_commit TO on')
    store.engine.dispose()
    pacer = PostgresPacer(store.engine, SLUG, longest_wait=NEVER)
    pacer.reserve(GET_FLOWS)
    sent: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    pacer.reserve(GET_FLOWS)
    assert len(sent) == 1
    assert store.values("SELECT DISTINCT waits FROM commits") == ["off"]
    assert store.value("SELECT current_setting('synchronous_commit')") == "on"
