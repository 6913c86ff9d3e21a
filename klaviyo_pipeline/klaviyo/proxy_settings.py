"""Settings of the environment that httpx reads by itself: proxies and certificates."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import getproxies_environment

import httpx

from klaviyo_pipeline.klaviyo.errors import KlaviyoError

UNREADABLE = (ValueError, ImportError, OSError, httpx.InvalidURL)
"""What httpx raises for a setting that it cannot use."""


class UnusableProxy(KlaviyoError):
    """A variable of the environment names a proxy or certificates that httpx cannot use."""


@contextmanager
def proxy_errors() -> Iterator[None]:
    """Name the variable where httpx cannot use a setting of the environment. Raises `UnusableProxy`."""
    try:
        yield
    except UNREADABLE as error:
        line = _unusable_setting()
        if line is None:
            raise
        raise UnusableProxy(line) from error


def _unusable_setting() -> str | None:
    """A line that names the setting, without its value: a proxy's address may hold a password."""
    certificates = os.environ.get("SSL_CERT_FILE")
    if certificates and not os.path.isfile(certificates):
        return "SSL_CERT_FILE names no file. Set it to a file with certificates, or unset it."
    proxies = getproxies_environment()
    for scheme in ("http", "https", "all"):
        if not proxies.get(scheme):
            continue
        try:
            httpx.Client(proxy=_address(proxies[scheme]), trust_env=False).close()
        except ImportError:
            return f"{_variable(scheme)} names a SOCKS proxy, which needs the package socksio (`pip install socksio`)."
        except UNREADABLE:
            return f"{_variable(scheme)} is no address of a proxy. Write it as http://host:port, or unset it."
    if proxies.get("no"):
        return f"{_variable('no')} cannot be read. Write it as host names and addresses with commas between."
    return None


def proxy_variable() -> str | None:
    """The variable that names the proxy of encrypted requests; None where they need none."""
    proxies = getproxies_environment()
    return next((_variable(scheme) for scheme in ("https", "all") if proxies.get(scheme)), None)


def _address(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(scheme: str) -> str:
    """The variable that is set; the one in lower case counts where both are."""
    return f"{scheme}_proxy" if os.environ.get(f"{scheme}_proxy") else f"{scheme}_proxy".upper()
