"""Requests for 1, 30, 365 and 730 windows of each entity and of a series report, compared with the minimum."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta

import pytest

from benchmarks.results import Measurement
from klaviyo_pipeline.catalog import ENTITIES, of_account
from klaviyo_pipeline.config.wording import counted
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
    """One measurement for each asset and number of windows."""
    size = {"flows": 12, "campaigns": 20, "forms": 5, "segments": 20} if quick else {}
    size = size or {"flows": 300, "campaigns": 2_000, "forms": 200, "segments": 1_500}
    shop = generate_account(7, **size, timezone="UTC", start=FIRST_DAY, until=LAST_DAY)
    counts = (1, 30) if quick else (1, 30, 365, 730)
    with (
        pytest.MonkeyPatch.context() as environment,
        pipeline_on(url, shop, environment, start_date=FIRST_DAY) as pipeline,
    ):
        for listing in of_account(ENTITIES, pipeline.account).values():
            for count in counts:
                yield _entity(pipeline, listing, count)
        for count in counts[:3]:
            requested = sum(one.endpoint == "query_flow_series" for one in _requested(pipeline, REPORT, count))
            yield Measurement(
                "requests",
                f"{REPORT}, {counted(count, 'window')}",
                requested,
                "request",
                math.ceil(count / 59),
                "at most",
            )


def _entity(pipeline: Pipeline, listing: Listing, count: int) -> Measurement:
    entity = listing.entity
    # Campaigns are found by the time of their messages too.
    paths = [listing.path, *([listing.messages.path] if listing.messages else [])]
    requested = [one for one in _requested(pipeline, entity, count) if one.path in paths]
    fewest = lower_bound(pipeline.shop, listing, _windows(count))
    most = math.floor(fewest * (1 + SPARE_SHARE)) + SPARE
    return Measurement(
        "requests",
        f"{entity}, {counted(count, 'window')} (at least {counted(fewest, 'page')})",
        len(requested),
        "request",
        most,
        "at most",
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
    """The minimum number of pages for the rows of these windows: at least one page for each listing.

    For a listing whose filter has no upper bound, the rows up to now count too.
    """
    end = windows[-1].end if listing.time_operators[1] is not None else datetime.max.replace(tzinfo=UTC)
    rows: Counter[bool] = Counter()
    for seen in shop.objects[listing.path.rpartition("/")[2]].values():
        attributes = seen.at(shop.clock())
        reported = attributes.get(listing.time_field or "") if attributes else None
        if attributes is None or not reported:
            continue
        if windows[0].start <= datetime.fromisoformat(reported.replace(" ", "T")) < end:
            rows[bool(attributes.get("archived")) and len(listing.variants) > 1] += 1
    pages = sum(math.ceil(count / listing.page_size) for count in rows.values())
    pages += max(0, len(listing.variants) - len(rows))
    return pages + (lower_bound(shop, listing.messages, windows) if listing.messages else 0)
