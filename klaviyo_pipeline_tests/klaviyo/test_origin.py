"""The API key is sent to the configured server and never to another one."""

import httpx
import pytest

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.listings import FORMS

from .conftest import API_KEY, Bench
from .fakes import NOON, StillPacer
from .resources import page
from .scripted_server import Scripted, ScriptedServer, html, ok


def client_of(base_url: str, api_key: str = API_KEY) -> KlaviyoClient:
    return KlaviyoClient(api_key=api_key, base_url=base_url, pacer=StillPacer())


@pytest.mark.parametrize(
    "url",
    [
        "https://a.klaviyo.com",
        "https://a.klaviyo.com/",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://localhost:1",
        "http://[::1]:8000",
    ],
)
def test_https_and_loopback_are_accepted(url: str) -> None:
    client_of(url).close()


@pytest.mark.parametrize(
    "url",
    [
        "http://a.klaviyo.com",
        "http://192.168.1.5",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "ftp://a.klaviyo.com",
        "a.klaviyo.com",
        "",
        "https://user:secret@a.klaviyo.com",
        "https://a.klaviyo.com:port",
    ],
)
def test_a_url_that_would_expose_the_key_is_refused(url: str) -> None:
    with pytest.raises(errors.InsecureUrl, match="KLAVIYO_API_URL") as raised:
        client_of(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "  ", "pk_a\nb", "pk_ключ"])
def test_a_malformed_key_is_rejected_and_not_quoted(key: str) -> None:
    with pytest.raises(errors.BadKey, match="KLAVIYO_API_KEY") as raised:
        client_of("https://a.klaviyo.com", key)
    assert "pk_" not in repr(raised.value)


def test_white_space_around_the_key_is_removed(server: ScriptedServer) -> None:
    server.will(ok({"data": [{"type": "account", "id": "A", "attributes": {"timezone": "UTC"}}]}))
    with client_of(server.url, f" {API_KEY}\n") as client:
        client.account()
    assert server.requested[0].headers["authorization"] == f"Klaviyo-API-Key {API_KEY}"


@pytest.mark.parametrize("status", [300, 301, 304])
def test_a_redirect_without_an_address_is_an_error_of_one_line(bench: Bench, status: int) -> None:
    bench.server.will(Scripted(status))
    with pytest.raises(errors.MalformedAnswer, match=r"is a redirect, which is not followed\. Check KLAVIYO_API_URL"):
        bench.client.account()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_the_other_host_never_sees_the_key(bench: Bench, status: int) -> None:
    with ScriptedServer() as other:
        bench.server.will(html(status, location=f"{other.url}/api/accounts"))
        with pytest.raises(errors.MalformedAnswer, match="redirect"):
            bench.client.account()
        assert other.requested == []
    assert len(bench.server.requested) == 1


@pytest.mark.parametrize(
    "link",
    [
        "{other}/api/forms?page%5Bcursor%5D=x",
        "https://a.klaviyo.com/api/forms",
        "https://127.0.0.1/api/forms",
        "//evil.example/api/forms",
        "http://user:pass@127.0.0.1:{port}/api/forms",
        17,
        "",
        "http://[",
        "http://127.0.0.1:x/",
    ],
)
def test_a_link_to_another_server_is_malformed_and_not_followed(bench: Bench, link: object) -> None:
    with ScriptedServer() as other:
        port = httpx.URL(bench.server.url).port
        reported = link.format(other=other.url, port=port) if isinstance(link, str) else link
        bench.server.will(ok(page(next=reported), x_klaviyo_req_id="r1"))
        query = FORMS.queries(None, None, NOON)[0]
        with pytest.raises(errors.MalformedAnswer) as raised:
            list(bench.client.pages(FORMS, query))
        assert other.requested == []
    assert len(bench.server.requested) == 1
    assert raised.value.request_id == "r1"


def test_a_proxy_from_the_environment_never_receives_an_unencrypted_request(
    bench: Bench, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        server.will(ok({"data": [{"type": "account", "id": "A", "attributes": {"timezone": "UTC"}}]}))
        with client_of(server.url) as client:
            client.account()
        assert proxy.requested == []
