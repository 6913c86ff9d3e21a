"""How often a request is sent, and the waits between its attempts."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from klaviyo_pipeline.klaviyo import errors, sender
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.listings import FLOWS
from klaviyo_pipeline.klaviyo.pacing import LocalPacer
from klaviyo_pipeline.klaviyo.retry import FailureBudget, RetryPolicy

from .conftest import API_KEY, Bench
from .fakes import NOON, NotedStop, StillPacer
from .scripted_server import Scripted, ScriptedServer, absent, failed, ok, refused

ACCOUNT_BODY: dict[str, object] = {"data": [{"type": "account", "id": "A", "attributes": {"timezone": "UTC"}}]}
ACCOUNT = ok(ACCOUNT_BODY)


def test_a_request_has_at_most_five_attempts_and_twenty_seconds_of_backoff(bench: Bench) -> None:
    bench.server.will(*[refused(503)] * 5)
    with pytest.raises(errors.Unavailable):
        bench.client.account()
    assert len(bench.server.requested) == 5
    assert bench.stop.waits == [1.0, 3.0, 8.0, 8.0]
    assert sum(bench.stop.waits) == 20


def test_backoffs_are_random_up_to_their_ceiling() -> None:
    assert [RetryPolicy(random=lambda: 0.25).backoff(attempt) for attempt in (1, 2, 3, 4)] == [0.25, 0.75, 2, 2]


def test_every_attempt_takes_a_slot_and_the_last_slot_is_the_observation_time(bench: Bench) -> None:
    bench.server.will(refused(503), refused(503), absent("flow", "F1"))
    lookup = bench.client.get(FLOWS, "F1")
    assert bench.pacer.reserved == ["get_flow"] * 3
    assert lookup.observed_at == NOON + timedelta(seconds=2)


def test_a_429_blocks_the_endpoint_for_the_requested_time(bench: Bench) -> None:
    bench.server.will(refused(429, "Slow down.", retry_after="7"), ACCOUNT)
    bench.client.account()
    assert bench.pacer.blocks == [("get_accounts", 7.0)]
    assert bench.stop.waits == []


def test_the_wait_of_a_429_without_a_header_is_read_from_its_detail(bench: Bench) -> None:
    bench.server.will(refused(429, "Request was throttled. Expected available in 12 seconds."), ACCOUNT)
    bench.client.account()
    assert bench.pacer.blocks == [("get_accounts", 12.0)]


def test_the_wait_of_a_429_is_read_from_its_title(bench: Bench) -> None:
    bench.server.will(
        failed(429, {"code": "throttled", "title": "Request was throttled. Expected available in 12 seconds."}), ACCOUNT
    )
    bench.client.account()
    assert bench.pacer.blocks == [("get_accounts", 12.0)]


def test_a_429_without_a_wait_is_retried_and_its_text_is_reported(bench: Bench) -> None:
    title = "Request was throttled."
    bench.server.will(*[failed(429, {"code": "throttled", "title": title, "detail": title})] * 5)
    with pytest.raises(
        errors.Throttled, match=r"Klaviyo's rate limit is exceeded: Request was throttled\. Another tool"
    ):
        bench.client.account()
    assert len(bench.server.requested) == 5


@pytest.mark.parametrize(
    ("hint", "wait"),
    [
        ("Wed, 01 Jul 2026 12:00:30 GMT", 30.0),
        ("Wednesday, 01-Jul-26 12:00:30 GMT", 30.0),
        ("Wed Jul  1 12:00:30 2026", 30.0),
        ("Wed, 01 Jul 2026 14:00:30 +0200", 30.0),
        ("1.5", 1.5),
    ],
)
def test_a_429_with_a_date_or_a_fraction_is_waited_for(bench: Bench, hint: str, wait: float) -> None:
    bench.server.will(refused(429, retry_after=hint), ACCOUNT)
    bench.client.account()
    assert bench.pacer.blocks == [("get_accounts", wait)]


@pytest.mark.parametrize("hint", ["", "0", "soon", "-5", "1e3", "NaN", "5, 10"])
def test_a_429_without_a_useful_hint_backs_off(bench: Bench, hint: str) -> None:
    bench.server.will(refused(429, "Slow.", retry_after=hint), refused(429, "Slow.", retry_after=hint), ACCOUNT)
    bench.client.account()
    assert bench.pacer.blocks == [("get_accounts", 1.0), ("get_accounts", 3.0)]


def test_a_429_on_every_attempt_is_throttled_and_leaves_a_block(bench: Bench) -> None:
    bench.server.will(*[refused(429, retry_after="2")] * 5)
    with pytest.raises(errors.Throttled, match="Another tool"):
        bench.client.account()
    assert len(bench.pacer.blocks) == 5


def test_a_429_without_a_wait_on_every_attempt_is_throttled_too(bench: Bench) -> None:
    bench.server.will(*[refused(429)] * 5)
    with pytest.raises(errors.Throttled):
        bench.client.account()


def test_a_429_waits_for_up_to_a_minute_and_more_is_a_used_up_quota(bench: Bench) -> None:
    bench.server.will(refused(429, retry_after="60"), refused(429, retry_after="61"))
    with pytest.raises(errors.QuotaSpent) as raised:
        bench.client.account()
    assert raised.value.returns_at == NOON + timedelta(seconds=61)
    assert bench.pacer.blocks == [("get_accounts", 60.0), ("get_accounts", 61.0)]
    assert "2026-07-01 12:01:01 UTC" in str(raised.value)


def test_a_used_up_daily_quota_outweighs_a_short_retry_after(bench: Bench) -> None:
    bench.server.will(refused(429, retry_after="1", ratelimit_remaining_daily="0", ratelimit_reset_daily="7200"))
    with pytest.raises(errors.QuotaSpent) as raised:
        bench.client.account()
    assert raised.value.returns_at == NOON + timedelta(hours=2)


@pytest.mark.parametrize("hint", ["999999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_response_blocks_an_endpoint_for_longer_than_a_day(bench: Bench, hint: str) -> None:
    bench.server.will(refused(429, retry_after=hint))
    with pytest.raises(errors.QuotaSpent) as raised:
        bench.client.account()
    assert raised.value.returns_at == NOON + timedelta(days=1)
    assert bench.pacer.blocks == [("get_accounts", 86_400.0)]


def test_the_last_request_of_a_day_succeeds_and_blocks_the_endpoint(bench: Bench) -> None:
    answer = ok(ACCOUNT_BODY, ratelimit_remaining_daily="0", ratelimit_reset_daily="7200")
    bench.server.will(answer)
    assert bench.client.account().id == "A"
    assert bench.pacer.blocks == [("get_accounts", 7200.0)]


def test_no_request_is_sent_after_another_tool_used_up_the_daily_quota(server: ScriptedServer) -> None:
    spent = ok(ACCOUNT_BODY, ratelimit_remaining_daily="0", ratelimit_reset_daily="7200")
    server.will(spent, ACCOUNT)
    clock = LocalPacer(clock=lambda: NOON)
    with KlaviyoClient(api_key=API_KEY, base_url=server.url, pacer=clock) as client:
        assert client.account().id == "A"
        with pytest.raises(errors.QuotaSpent, match="2026-07-01 14:00:00 UTC"):
            client.account()
    assert len(server.requested) == 1


@pytest.mark.parametrize("left", [{"ratelimit_remaining_daily": "1"}, {}, {"ratelimit_remaining_daily": "0"}])
def test_an_endpoint_with_daily_quota_left_is_not_blocked(bench: Bench, left: dict[str, str]) -> None:
    bench.server.will(ok(ACCOUNT_BODY, **left))
    bench.client.account()
    assert bench.pacer.blocks == []


def test_the_wait_of_a_503_is_obeyed_up_to_a_minute_by_all_requests_for_the_endpoint(bench: Bench) -> None:
    bench.server.will(refused(503, retry_after="20"), refused(503, retry_after="9000"), ACCOUNT)
    bench.client.account()
    assert bench.stop.waits == [20.0, 60.0]
    assert bench.pacer.blocks == [("get_accounts", 20.0), ("get_accounts", 60.0)]


def test_after_three_consecutive_exhausted_requests_no_more_are_sent(bench: Bench) -> None:
    bench.server.will(*[refused(503)] * 15)
    for _ in range(4):
        with pytest.raises(errors.Unavailable):
            bench.client.account()
    assert len(bench.server.requested) == 15


def test_the_error_after_exhausted_requests_contains_the_last_reason(bench: Bench) -> None:
    bench.server.will(*[refused(503)] * 15)
    for _ in range(3):
        with pytest.raises(errors.Unavailable):
            bench.client.account()
    with pytest.raises(errors.Unavailable, match="last reason: HTTP 503"):
        bench.client.account()


@dataclass
class Hours:
    """A clock that waits advance."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Patience:
    """A client whose waits advance a clock, and that can lose 100 seconds to failures."""

    server: ScriptedServer
    client: KlaviyoClient
    hours: Hours


@pytest.fixture
def patience(server: ScriptedServer) -> Iterator[Patience]:
    hours, pacer = Hours(), LocalPacer(scale=0, clock=lambda: NOON + timedelta(seconds=hours.now))

    class MovingStop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            hours.now += timeout or 0.0
            return False

    policy = RetryPolicy(random=lambda: 1.0, longest_loss=100.0, consecutive_exhausted=99, clock=hours)
    client = KlaviyoClient(api_key=API_KEY, base_url=server.url, pacer=pacer, stop=MovingStop(), retry=policy)
    with client:
        yield Patience(server, client, hours)


@pytest.mark.parametrize(("status", "requested"), [(503, None), (429, "30"), (503, "30"), (429, None)])
def test_the_time_that_a_run_loses_to_failures_is_limited(
    patience: Patience, status: int, requested: str | None
) -> None:
    patience.server.will(*[refused(status, retry_after=requested or ""), ACCOUNT] * 200)

    def ask_on() -> None:
        for _ in range(200):
            patience.client.account()

    with pytest.raises(errors.Unavailable, match="Giving up: 2 minutes spent") as raised:
        ask_on()
    assert f"HTTP {status}" in str(raised.value)
    assert 60 < patience.hours.now <= 100


def test_waiting_for_the_published_rates_is_not_lost_time(server: ScriptedServer) -> None:
    hours, lost = Hours(), RetryPolicy(longest_loss=1.0)
    pacer = LocalPacer(clock=lambda: NOON + timedelta(seconds=hours.now))
    server.will(*[ACCOUNT] * 40)
    with KlaviyoClient(api_key=API_KEY, base_url=server.url, pacer=pacer, stop=NotedStop(), retry=lost) as client:
        for _ in range(40):
            client.account()
    assert len(server.requested) == 40


def test_time_that_threads_lose_at_once_counts_once() -> None:
    hours = Hours()
    lost = FailureBudget(hours)
    hours.now = 60.0
    for _ in range(6):
        lost.add(60.0)
    assert lost.seconds == 60.0
    hours.now = 70.0
    lost.add(5.0)
    assert lost.seconds == 65.0


def test_a_success_resets_the_count_of_exhausted_requests(bench: Bench) -> None:
    bench.server.will(*[refused(503)] * 10, refused(401), *[refused(503)] * 10, ACCOUNT)
    for kind in (errors.Unavailable, errors.Unavailable, errors.BadKey, errors.Unavailable, errors.Unavailable):
        with pytest.raises(kind):
            bench.client.account()
    assert bench.client.account().id == "A"


def test_each_attempt_is_reported_with_its_cost(bench: Bench) -> None:
    bench.server.will(refused(502, x_klaviyo_req_id="r1"), ACCOUNT)
    bench.client.account()
    first, second = bench.records
    assert (first.status, first.attempt, first.retried_because, first.request_id) == (502, 1, None, "r1")
    assert (first.rows, first.waited_seconds) == (0, 0.0)
    assert (second.status, second.attempt, second.retried_because) == (200, 2, "HTTP 502")
    assert (second.rows, second.waited_seconds, second.method) == (1, 1.0, "GET")


def test_an_attempt_without_a_response_is_reported_without_a_status(bench: Bench) -> None:
    bench.server.will(Scripted(hang_up=True), ACCOUNT)
    bench.client.account()
    assert bench.records[0].status is None
    assert "RemoteProtocolError" in str(bench.records[1].retried_because)


def test_an_unreachable_server_is_unavailable(unused_client: KlaviyoClient) -> None:
    with unused_client, pytest.raises(errors.Unavailable, match="cannot be reached") as raised:
        unused_client.account()
    assert raised.value.status is None


@pytest.mark.parametrize("trouble", [httpx.ReadTimeout("slow"), httpx.ConnectTimeout("far")])
def test_a_timeout_is_retried(trouble: httpx.TransportError) -> None:
    client = KlaviyoClient(
        api_key=API_KEY, pacer=StillPacer(), transport=_trouble_then_account(trouble), retry=RetryPolicy((0,))
    )
    with client:
        assert client.account().id == "A"


def test_a_body_that_trickles_in_for_too_long_is_a_timeout(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "LONGEST_BODY_SECONDS", -1.0)
    with pytest.raises(errors.Unavailable, match="ReadTimeout the answer took more than"):
        bench.client.account()
    assert len(bench.records) > 1
    assert bench.records[0].status is None


def test_a_stop_ends_a_wait_for_a_slot(server: ScriptedServer) -> None:
    stop, pacer = threading.Event(), LocalPacer()
    client = KlaviyoClient(api_key=API_KEY, base_url=server.url, pacer=pacer, stop=stop)
    server.will(refused(429, retry_after="50"))
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    with client, pytest.raises(errors.Stopped):
        client.account()
    timer.join()
    assert len(server.requested) == 1


def test_after_a_stop_nothing_is_sent(bench: Bench) -> None:
    bench.stop.set()
    with pytest.raises(errors.Stopped):
        bench.client.account()
    assert bench.server.requested == []


@pytest.fixture
def unused_client() -> KlaviyoClient:
    with ScriptedServer() as gone:
        url = gone.url
    return KlaviyoClient(api_key=API_KEY, base_url=url, pacer=StillPacer(), retry=RetryPolicy((0, 0)))


def _trouble_then_account(trouble: httpx.TransportError) -> httpx.MockTransport:
    waiting = [trouble]

    def answer(request: httpx.Request) -> httpx.Response:
        if waiting:
            raise waiting.pop()
        return httpx.Response(200, content=ACCOUNT.body)

    handler: Callable[[httpx.Request], httpx.Response] = answer
    return httpx.MockTransport(handler)
