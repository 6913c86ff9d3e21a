"""The messages and the campaigns of a window are requested at the same time."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import httpx

from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS
from klaviyo_pipeline.klaviyo.pacing import LocalPacer
from klaviyo_pipeline_tests.support import utc

REVISION = "2026-10-15"
LONGER_THAN_NEEDED = 10.0


def test_messages_are_answered_while_the_campaigns_are_requested() -> None:
    requested, waited = threading.Event(), list[bool]()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/campaigns":
            requested.set()
        else:
            waited.append(requested.wait(LONGER_THAN_NEEDED))
        empty = json.dumps({"data": [], "links": {"next": None}})
        return httpx.Response(200, text=empty, headers={"content-type": "application/vnd.api+json"})

    start, listing = utc("2025-03-10T00:00:00"), listing_at(REVISION, CAMPAIGNS)
    transport = httpx.MockTransport(answer)
    with KlaviyoClient(api_key="pk_test", revision=REVISION, pacer=LocalPacer(0), transport=transport) as client:
        [query] = listing.queries(start, start + timedelta(days=1), start + timedelta(days=2))
        pages = list(client.pages(listing, query))
    assert waited == [True]
    assert [page.records for page in pages] == [[], [], []]
