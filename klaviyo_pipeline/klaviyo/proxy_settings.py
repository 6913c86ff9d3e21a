"""The environment variables for proxies and certificates, which httpx reads itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import getproxies_environment

import httpx

from klaviyo_pipeline.klaviyo.errors import KlaviyoError

UNREADABLE = (ValueError, ImportError, OSError, httpx.InvalidURL)
"""The errors that httpx raises for a setting that it cannot use."""


class UnusableProxy(KlaviyoError):
    """An environment variable sets a proxy or a certificate file that httpx cannot use."""


@contextmanager
def proxy_errors() -> Iterator[None]:
    """Turns an error of httpx in this block into `UnusableProxy`, if a proxy or certificate variable causes it."""
    try:
        yield
    except UNREADABLE as error:
        line = _unusable_setting()
        if line is None:
            raise
        raise UnusableProxy(line) from error


def _unusable_setting() -> str | None:
    """A message about the variable that httpx cannot use; None if all are usable.

    The message does not contain the value, because a proxy URL may contain a password.
    """
    certificates = os.environ.get("SSL_CERT_FILE")
    if certificates and not os.path.isfile(certificates):
        return "SSL_CERT_FILE does not name a file. Set it to the path of a file with certificates, or unset it."
    proxies = getproxies_environment()
    for scheme in ("http", "https", "all"):
        if not proxies.get(scheme):
            continue
        try:
            httpx.Client(proxy=_address(proxies[scheme]), trust_env=False).close()
        except ImportError:
            return f"{_variable(scheme)} is a SOCKS proxy, which needs the package socksio (`pip install socksio`)."
        except UNREADABLE:
            return f"{_variable(scheme)} is not a valid proxy URL. Write it as http://host:port, or unset it."
    if proxies.get("no"):
        return f"{_variable('no')} is not valid. Write host names and addresses, separated by commas."
    return None


def proxy_variable() -> str | None:
    """The name of the variable that sets the proxy for https requests; None without a proxy."""
    proxies = getproxies_environment()
    return next((_variable(scheme) for scheme in ("https", "all") if proxies.get(scheme)), None)


def where_to_look(error: httpx.HTTPError, proxy: str | None) -> str:
    """What to check after a connection has failed, as a noun phrase for a message that begins with "Check".

    `proxy` is the name of the variable that sets a proxy; None without a proxy.
    """
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "SSL_CERT_FILE (a file with the certificate of the proxy or firewall that inspects the traffic)"
    return f"the network and the proxy in {proxy}" if proxy else "the network"


def _address(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(scheme: str) -> str:
    """The name of the variable that sets this proxy. If both names are set, the lower-case one applies."""
    return f"{scheme}_proxy" if os.environ.get(f"{scheme}_proxy") else f"{scheme}_proxy".upper()
