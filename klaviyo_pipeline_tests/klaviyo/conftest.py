"""A client of a scripted server, which never really waits."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from klaviyo_pipeline.klaviyo.calls import RequestRecord
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.klaviyo.retry import RetryPolicy

from .fakes import NotedStop, StillPacer
from .scripted_server import ScriptedServer

API_KEY = "pk_0123456789abcdefsecret"


@dataclass
class Bench:
    """A server, its client, and the recorded waits and requests of the client."""

    server: ScriptedServer
    client: KlaviyoClient
    pacer: StillPacer
    stop: NotedStop
    records: list[RequestRecord] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def bench(server: ScriptedServer) -> Iterator[Bench]:
    pacer, stop, records = StillPacer(), NotedStop(), list[RequestRecord]()
    client = KlaviyoClient(
        api_key=API_KEY,
        base_url=server.url,
        pacer=pacer,
        stop=stop,
        on_request=records.append,
        retry=RetryPolicy(random=lambda: 1.0),
    )
    with client:
        yield Bench(server, client, pacer, stop, records)


def failing(bench: Bench, kind: type[KlaviyoError]) -> KlaviyoError:
    """The error of a request for the account, which is of exactly this kind. `KlaviyoError` stands for any."""
    with pytest.raises(kind) as raised:
        bench.client.account()
    assert type(raised.value) is kind or kind is KlaviyoError
    return raised.value
