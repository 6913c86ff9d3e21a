"""Requests for 1, 30, 365 and 730 windows of each entity and of a series report, against what holds the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta

import pytest

from benchmarks.results import Measurement
from klaviyo_pipeline.catalog import ENTITIES
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.request_log import RequestLogEntry
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.windows import Window
from klaviyo_pipeline_tests.support import Pipeline, pipeline_on

FIRST_DAY, LAST_DAY = date(2024, 7, 1), date(2026, 6, 30)
SPARE_SHARE, SPARE = 0.1, 10
REPORT = "flow_report"


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """A figure for each asset and number of windows."""
    size = {"flows": 12, "campaigns": 20, "forms": 5, "segments": 20} if quick else {}
    size = size or {"flows": 300, "campaigns": 2_000, "forms": 200, "segments": 1_500}
    shop = generate_account(7, **size, timezone="UTC", start=FIRST_DAY, until=LAST_DAY)
    counts = (1, 30) if quick else (1, 30, 365, 730)
    with (
        pytest.MonkeyPatch.context() as environment,
        pipeline_on(url, shop, environment, start_date=FIRST_DAY) as pipeline,
    ):
        for listing in ENTITIES.values():
            for count in counts:
                yield _entity(pipeline, listing, count)
        for count in counts[:3]:
            requested = sum(one.endpoint == "query_flow_series" for one in _requested(pipeline, REPORT, count))
            yield Measurement(
                "requests", f"{REPORT}, {count} windows", requested, "requests", math.ceil(count / 59), "at most"
            )


def _entity(pipeline: Pipeline, listing: Listing, count: int) -> Measurement:
    entity = listing.entity
    requested = [one for one in _requested(pipeline, entity, count) if one.endpoint == f"get_{entity}"]
    fewest = lower_bound(pipeline.shop, listing, _windows(count))
    most = math.floor(fewest * (1 + SPARE_SHARE)) + SPARE
    return Measurement(
        "requests", f"{entity}, {count} windows ({fewest} pages)", len(requested), "requests", most, "at most"
    )


def _requested(pipeline: Pipeline, asset: str, count: int) -> list[RequestLogEntry]:
    windows = _windows(count)
    with pipeline.requested() as requests:
        pipeline.run(asset, windows[0].key, windows[-1].key)
    return requests


def _windows(count: int) -> Sequence[Window]:
    midnight = datetime.combine(LAST_DAY, time(), UTC)
    starts = [midnight - timedelta(days=back) for back in reversed(range(count))]
    return [Window(start, start + timedelta(days=1), start.date().isoformat()) for start in starts]


def lower_bound(shop: SandboxAccount, listing: Listing, windows: Sequence[Window]) -> int:
    """The pages that hold the rows of these windows, one at least for each listing; without an upper bound the pages
    from the first window to now.
    """
    end = windows[-1].end if listing.time_operators[1] is not None else datetime.max.replace(tzinfo=UTC)
    rows: Counter[tuple[str, bool]] = Counter()
    for seen in shop.objects[listing.entity].values():
        attributes = seen.at(shop.clock())
        reported = attributes.get(listing.time_field or "") if attributes else None
        if attributes is None or not reported:
            continue
        if windows[0].start <= datetime.fromisoformat(reported.replace(" ", "T")) < end:
            older = shop.older_campaign(seen.id) if listing.entity == "campaigns" else None
            rows.update((channel, bool(attributes.get("archived"))) for channel in (older.channels if older else [""]))
    pages = sum(math.ceil(count / listing.page_size) for count in rows.values())
    return pages + max(0, len(listing.variants) - len(rows))
