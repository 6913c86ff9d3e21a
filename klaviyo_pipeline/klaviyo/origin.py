"""Where the API key may go: one origin, encrypted, or this very machine."""

import ipaddress

import httpx

from klaviyo_pipeline.klaviyo.errors import InsecureUrl, MalformedAnswer


class Origin:
    """The base URL of the API. Raises `InsecureUrl` for plain http to anything but a loopback address."""

    def __init__(self, base_url: str) -> None:
        url = _parsed(base_url)
        if not url.host or url.userinfo:
            raise InsecureUrl("KLAVIYO_API_URL must be a plain URL such as https://a.klaviyo.com, without a login.")
        if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
            raise InsecureUrl(
                f"KLAVIYO_API_URL would send the API key unencrypted to {url.host}. Use https; "
                "plain http is for this machine only."
            )
        self.base_url = base_url.rstrip("/")
        self.encrypted = url.scheme == "https"
        self._key = _key(url)

    def url(self, path: str) -> str:
        """The address of an API path such as `/api/flows`."""
        return self.base_url + path

    def follow(self, link: object, came_from: str) -> str:
        """A link of an answer as an absolute address; `MalformedAnswer` if it leaves this origin."""
        if not isinstance(link, str) or not link:
            raise MalformedAnswer(f"The next page's link is no address: {link!r}.")
        try:
            url = httpx.URL(came_from).join(link)
        except httpx.InvalidURL as error:
            raise MalformedAnswer(f"The next page's link is no address: {error}.") from None
        if _key(url) != self._key or url.userinfo:
            raise MalformedAnswer(
                f"The answer leads elsewhere, to {url.scheme}://{url.host}, where the API key must not go. "
                "Check KLAVIYO_API_URL."
            )
        return str(url)


def _parsed(base_url: str) -> httpx.URL:
    try:
        return httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        raise InsecureUrl("KLAVIYO_API_URL is no URL. It is usually https://a.klaviyo.com.") from None


def _key(url: httpx.URL) -> tuple[str, str, int]:
    # This machine has several names, and a server on it may know itself by another than we call it.
    host = "localhost" if _is_loopback(url.host) else url.host
    return url.scheme, host, url.port or (443 if url.scheme == "https" else 80)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
