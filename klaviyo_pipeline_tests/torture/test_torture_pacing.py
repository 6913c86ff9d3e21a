"""Real processes on one account, on a simulated clock; `make torture` runs more of them, for longer."""

from __future__ import annotations

import httpx
import pytest
import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.rates import DAY, MINUTE
from klaviyo_pipeline.postgres import engine as engines
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline_tests.support import SLUG
from klaviyo_pipeline_tests.torture.pacing import excesses, race

pytestmark = pytest.mark.slow


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("endpoint", "processes", "seconds"),
    [("get_flows", 2, 2.1 * MINUTE), ("get_campaigns", 4, 1.1 * MINUTE), ("query_flow_series", 2, 1.1 * DAY)],
)
def test_several_processes_keep_every_limit_together_and_use_it_fully(
    endpoint: str, processes: int, seconds: float, database: str
) -> None:
    assert excesses(race(database, endpoint, processes, seconds)) == []


def test_nothing_is_sent_if_the_shared_pacing_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the database of the pacing is gone, the run fails, and no request is sent without pacing."""
    monkeypatch.setattr(engines, "RETRY_PAUSES", (0.0, 0.0, 0.0))
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"data": []})

    gone = create_engine("postgresql://nobody@127.0.0.1:9/nowhere")
    with KlaviyoClient(
        api_key="pk_test", pacer=PostgresPacer(gone, SLUG), transport=httpx.MockTransport(answer)
    ) as client:
        for _ in range(3):
            with pytest.raises(sa.exc.OperationalError):
                client.account()
    assert sent == []
