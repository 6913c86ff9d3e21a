"""How long requests take by the published rates alone. Answers take their time besides: this is the least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from klaviyo_pipeline.catalog import ENDPOINTS
from klaviyo_pipeline.klaviyo.pacing import padded_windows
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.klaviyo.reports import API_REPORTS

_REPORTS = frozenset(report.endpoint.name for report in API_REPORTS.values())


def pace(endpoint: Endpoint, requests: int, scale: float) -> float:
    """Seconds from the first to the last of so many requests, each sent as early as the pacing allows."""
    seconds, left = 0.0, max(0, requests - 1)
    for most, span in sorted(padded_windows(endpoint, scale), key=lambda window: window[1], reverse=True):
        seconds += left // most * span
        left %= most
    return seconds


def whole_sync(requests: Mapping[str, int], scale: float) -> float:
    """Seconds of so many requests by endpoint, as a sync sends them: entities side by side, then reports."""
    entities = _longest((one for one in requests.items() if one[0] not in _REPORTS), scale)
    return entities + _longest((one for one in requests.items() if one[0] in _REPORTS), scale)


def format_duration(seconds: float) -> str:
    """A span of time as a person says it."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"


def time_left(endpoint: Endpoint, requests: int, scale: float) -> str:
    """What so many requests take at least after one that was just sent, for a line of progress; empty if nothing."""
    seconds = pace(endpoint, requests + 1, scale) if requests else 0.0
    return f", {format_duration(seconds)} or more left at the published rates" if seconds else ""


def _longest(requests: Iterable[tuple[str, int]], scale: float) -> float:
    return max((pace(ENDPOINTS[name], count, scale) for name, count in requests), default=0.0)
