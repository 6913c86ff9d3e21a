"""Computes how long requests take at the published rates. This is a lower bound, without Klaviyo's response times."""

from __future__ import annotations

from collections.abc import Mapping

from klaviyo_pipeline.catalog import ENDPOINTS
from klaviyo_pipeline.klaviyo.pacing import padded_windows
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.reports import API_REPORTS

_REPORTS = frozenset(report.endpoint.name for report in API_REPORTS.values())


def pace(endpoint: Endpoint, requests: int, scale: float) -> float:
    """The seconds between the first and the last of these requests, if each is sent as soon as the pacing allows."""
    seconds, left = 0.0, max(0, requests - 1)
    for limit, length in sorted(padded_windows(endpoint, scale), key=lambda window: window[1], reverse=True):
        seconds += left // limit * length
        left %= limit
    return seconds


def whole_sync(requests: Mapping[str, int], scale: float) -> float:
    """The seconds that a sync with these requests takes. `requests` maps an endpoint's name to its number of requests.

    A sync requests all entities concurrently, and then all reports concurrently.
    """
    entities = _longest({name: count for name, count in requests.items() if name not in _REPORTS}, scale)
    return entities + _longest({name: count for name, count in requests.items() if name in _REPORTS}, scale)


def format_duration(seconds: float) -> str:
    """The duration, rounded, with its unit: seconds, minutes, hours or days, such as "5 min"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"


def time_left(endpoint: Endpoint, requests: int, scale: float) -> str:
    """The end of a progress line: the shortest time that the remaining requests take. Empty below one second."""
    seconds = pace(endpoint, requests + 1, scale) if requests else 0.0
    return f", {format_duration(seconds)} or more left at the published rates" if seconds >= 1 else ""


def _longest(requests: Mapping[str, int], scale: float) -> float:
    return max((pace(ENDPOINTS[name], count, scale) for name, count in requests.items()), default=0.0)
