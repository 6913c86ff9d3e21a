"""Restricts where the API key may be sent: to one origin only, over https or to a loopback address."""

import ipaddress

import httpx

from klaviyo_pipeline.klaviyo.errors import InsecureUrl, MalformedAnswer


class Origin:
    """The base URL of the API.

    Raises `InsecureUrl` for plain http, except to a loopback address, and for a URL that is not valid or contains a
    user name.
    """

    def __init__(self, base_url: str) -> None:
        url = _parsed(base_url)
        if not url.host or url.userinfo:
            raise InsecureUrl(
                "KLAVIYO_API_URL must be a URL without user name and password, such as https://a.klaviyo.com."
            )
        if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
            raise InsecureUrl(
                f"KLAVIYO_API_URL would send the API key unencrypted to {url.host}. Use https. "
                "Plain http is allowed for localhost only."
            )
        self.base_url = base_url.rstrip("/")
        self.encrypted = url.scheme == "https"
        self._key = _key(url)

    def url(self, path: str) -> str:
        """The address of an API path such as `/api/flows`."""
        return self.base_url + path

    def follow(self, link: object, came_from: str) -> str:
        """`link` as an absolute address. It may be relative to `came_from`, the address of the page that contains it.

        Raises `MalformedAnswer` if the link leads to another origin or is not a valid URL.
        """
        if not isinstance(link, str) or not link:
            raise MalformedAnswer(f"The link to the next page is not a valid URL: {link!r}.")
        try:
            url = httpx.URL(came_from).join(link.strip())
        except httpx.InvalidURL as error:
            raise MalformedAnswer(f"The link to the next page is not a valid URL: {error}.") from None
        if _key(url) != self._key or url.userinfo:
            raise MalformedAnswer(
                f"The link to the next page leads to another server, {url.scheme}://{url.host}. The API key is not "
                "sent there. Check KLAVIYO_API_URL."
            )
        return str(url)


def _parsed(base_url: str) -> httpx.URL:
    try:
        return httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        raise InsecureUrl("KLAVIYO_API_URL is not a valid URL. The default is https://a.klaviyo.com.") from None


def _key(url: httpx.URL) -> tuple[str, str, int]:
    # The links of a local server may contain `127.0.0.1` where the base URL has `localhost`, or the other way round.
    host = "localhost" if _is_loopback(url.host) else url.host
    return url.scheme, host, url.port or (443 if url.scheme == "https" else 80)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
