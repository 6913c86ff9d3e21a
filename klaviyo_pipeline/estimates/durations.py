"""How long requests take by the published rates alone. Answers take their time besides: this is the least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from klaviyo_pipeline.assets.reports import REPORT_ASSETS
from klaviyo_pipeline.klaviyo.entities import ENDPOINTS
from klaviyo_pipeline.klaviyo.pacing import padded_windows
from klaviyo_pipeline.klaviyo.rates import Endpoint

_REPORTS = frozenset(spec.report.endpoint.name for spec in REPORT_ASSETS.values())


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


def _longest(requests: Iterable[tuple[str, int]], scale: float) -> float:
    return max((pace(ENDPOINTS[name], count, scale) for name, count in requests), default=0.0)
