from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from klaviyo_pipeline.sandbox.app import create_app
from klaviyo_pipeline.sandbox.sandbox_account import SANDBOX_KEY, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.sandbox.conftest import client_of, error_of

REPORT = {
    "data": {
        "type": "segment-values-report",
        "attributes": {"statistics": ["members_added"], "timeframe": {"key": "yesterday"}},
    }
}


class Stopwatch:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


def served(account: SandboxAccount, watch: Stopwatch, scale: float) -> SandboxServer:
    return SandboxServer(create_app(account, rate_scale=scale, timer=watch))


@pytest.fixture
def limited(account: SandboxAccount, watch: Stopwatch) -> Iterator[httpx.Client]:
    with served(account, watch, 1.0) as server, client_of(server) as client:
        yield client


def statuses(client: httpx.Client, count: int, path: str = "/api/flows") -> list[int]:
    return [client.get(path).status_code for _ in range(count)]


def test_the_burst_is_counted_by_the_sliding_second(limited: httpx.Client, watch: Stopwatch) -> None:
    assert statuses(limited, 2) == [200, 200]
    watch.seconds += 0.6
    assert statuses(limited, 2) == [200, 429]
    watch.seconds += 0.5
    assert statuses(limited, 3) == [200, 200, 429]


def test_the_minute_is_counted_too(limited: httpx.Client, watch: Stopwatch) -> None:
    for _ in range(60):
        assert limited.get("/api/flows").status_code == 200
        watch.seconds += 0.5
    answer = limited.get("/api/flows")
    assert error_of(answer, 429)["code"] == "throttled"
    assert answer.headers["retry-after"] == "30"
    watch.seconds += 30
    assert limited.get("/api/flows").status_code == 200


def test_a_throttled_answer_reports_when_to_come_back(limited: httpx.Client) -> None:
    statuses(limited, 3)
    answer = limited.get("/api/flows")
    error = error_of(answer, 429)
    assert answer.headers["retry-after"] == "1"
    assert error["title"] == "Request was throttled."
    assert error["detail"] == "Request was throttled. Expected available in 1 second."


def test_refused_requests_are_not_counted(limited: httpx.Client, watch: Stopwatch) -> None:
    assert statuses(limited, 10) == [200] * 3 + [429] * 7
    watch.seconds += 1
    assert statuses(limited, 3) == [200] * 3


def test_each_endpoint_has_its_own_count(limited: httpx.Client) -> None:
    assert statuses(limited, 4)[-1] == 429
    assert limited.get("/api/forms").status_code == 200
    assert statuses(limited, 11, "/api/metrics") == [200] * 10 + [429]


def test_bad_requests_count_like_good_ones(limited: httpx.Client) -> None:
    assert statuses(limited, 4, "/api/flows?x=1") == [400, 400, 400, 429]


def test_the_headers_report_the_burst(limited: httpx.Client) -> None:
    first, second = limited.get("/api/flows"), limited.get("/api/flows")
    assert first.headers["ratelimit-limit"] == "3, 3;w=1, 60;w=60"
    assert [answer.headers["ratelimit-remaining"] for answer in (first, second)] == ["2", "1"]
    assert second.headers["ratelimit-reset"] == "1"
    assert "ratelimit-remaining-daily" not in second.headers


def test_reports_have_a_daily_quota(limited: httpx.Client, watch: Stopwatch) -> None:
    for spent in range(225):
        answer = limited.post("/api/segment-values-reports", json=REPORT)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-remaining-daily"] == str(224 - spent)
        assert answer.headers["ratelimit-limit"] == "1, 1;w=1, 2;w=60, 225;w=86400"
        watch.seconds += 30
    answer = limited.post("/api/segment-values-reports", json=REPORT)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) == 86_400 - 225 * 30
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


def test_a_third_report_within_a_minute_waits(limited: httpx.Client, watch: Stopwatch) -> None:
    found = []
    for _ in range(3):
        found.append(limited.post("/api/segment-values-reports", json=REPORT).status_code)
        watch.seconds += 2
    assert found == [200, 200, 429]


def test_the_scale_shrinks_the_windows(account: SandboxAccount, watch: Stopwatch) -> None:
    with served(account, watch, 10.0) as server, client_of(server) as client:
        assert statuses(client, 4) == [200, 200, 200, 429]
        watch.seconds += 0.1
        assert statuses(client, 3) == [200, 200, 200]


def test_scale_zero_means_no_limits(account: SandboxAccount, watch: Stopwatch) -> None:
    with served(account, watch, 0) as server, client_of(server) as client:
        assert statuses(client, 70) == [200] * 70
        assert client.get("/api/flows").headers["ratelimit-limit"] == "3, 3;w=1, 60;w=60"


def test_a_negative_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_scale"):
        create_app(SandboxAccount(), rate_scale=-1)


def test_the_profile_count_is_limited_on_its_own(
    account: SandboxAccount, limited: httpx.Client, watch: Stopwatch
) -> None:
    account.put("segments", "S")
    slow = "/api/segments/S?additional-fields[segment]=profile_count"
    assert statuses(limited, 2, slow) == [200, 429]
    assert limited.get("/api/segments/S").status_code == 200


def test_two_accounts_do_not_share_their_limits(account: SandboxAccount, watch: Stopwatch) -> None:
    other = SandboxAccount(id="OTHER", api_keys={"pk_other": {"flows:read"}})
    with SandboxServer(create_app([account, other], timer=watch)) as server:
        for key in (SANDBOX_KEY, "pk_other"):
            with client_of(server, Authorization=f"Klaviyo-API-Key {key}") as client:
                assert statuses(client, 4) == [200, 200, 200, 429]
