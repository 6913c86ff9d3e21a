"""Environment variables that httpx reads itself."""

import httpx
import pytest

from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.errors import Unavailable
from klaviyo_pipeline.klaviyo.proxy_settings import UnusableProxy
from klaviyo_pipeline.klaviyo.retry import RetryPolicy

from .conftest import API_KEY
from .fakes import StillPacer
from .test_origin import client_of

VARIABLES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *(name.upper() for name in VARIABLES), "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "HTTPS_PROXY",
            "ftp://user:s3cret@proxy:21",
            "HTTPS_PROXY is not a valid proxy URL. Write it as http://host:port, or unset it.",
        ),
        (
            "all_proxy",
            "http://proxy:port",
            "all_proxy is not a valid proxy URL. Write it as http://host:port, or unset it.",
        ),
        (
            "ALL_PROXY",
            "socks5://user:s3cret@proxy:1080",
            "ALL_PROXY is a SOCKS proxy, which needs the package socksio (`pip install socksio`).",
        ),
        (
            "NO_PROXY",
            "[::1",
            "NO_PROXY is not valid. Write host names and addresses, separated by commas.",
        ),
        (
            "SSL_CERT_FILE",
            "/nowhere",
            "SSL_CERT_FILE does not name a file. Set it to the path of a file with certificates, or unset it.",
        ),
    ],
)
def test_a_setting_that_httpx_cannot_use_is_a_one_line_error_that_names_it(
    name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UnusableProxy) as raised:
        client_of("https://a.klaviyo.com")
    assert str(raised.value) == line


def test_the_error_of_an_unreachable_proxy_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    hasty = RetryPolicy(ceilings=())
    with (
        KlaviyoClient(api_key=API_KEY, base_url="https://a.klaviyo.com", pacer=StillPacer(), retry=hasty) as client,
        pytest.raises(Unavailable, match="Check the network and the proxy in https_proxy, then run"),
    ):
        client.account()


def test_the_error_of_an_unknown_certificate_names_the_variable_that_makes_it_known() -> None:
    def inspect(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")

    hasty, transport = RetryPolicy(ceilings=()), httpx.MockTransport(inspect)
    with (
        KlaviyoClient(api_key=API_KEY, pacer=StillPacer(), retry=hasty, transport=transport) as client,
        pytest.raises(
            Unavailable, match=r"certificate\. Check SSL_CERT_FILE \(a file with the certificate of the proxy"
        ),
    ):
        client.account()


def test_a_valid_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,10.0.0.0/8,.example.com")
    client_of("https://a.klaviyo.com").close()
