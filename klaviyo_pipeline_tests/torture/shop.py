"""The account of the reliability tests: few objects, on many pages, in six windows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect
from klaviyo_pipeline.postgres.write import child_rows, io_manager, repositories
from klaviyo_pipeline.sandbox.sandbox_account import Message, SandboxAccount
from klaviyo_pipeline_tests.support import empty_shop, put, utc
from klaviyo_pipeline_tests.torture.small_steps import SMALL_STEPS

FIRST, LAST = date(2025, 3, 3), date(2025, 3, 8)
DAYS = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]

PAGE = 2
"""Objects per page of a listing, and groups per page of a report."""


def small_shop() -> SandboxAccount:
    """An account in which every listing has several pages, and every report several groups."""
    shop = empty_shop(largest_page=PAGE, report_page_size=PAGE)
    shop.tags = {"T1": "evergreen", "T2": "sale", "T3": "unused", "T4": "unused too", "T5": "old"}
    for number in range(8):
        reported: dict[str, Any] = {"tags": ["T1"] if number % 3 else ["T1", "T2"]}
        at = utc("2025-03-03T06:00:00") + timedelta(hours=17 * number)
        message = Message(f"M{number}", "email", f"message {number}")
        archived = {"archived": number in (2, 5, 6)}
        put(shop, "flows", f"F{number}", at, messages=[message], **archived, **reported)
        channels = [("email",), ("sms",), ("email", "sms")][number % 3]
        put(
            shop,
            "campaigns",
            f"C{number}",
            at,
            send_time=at,
            messages=[message],
            channels=channels,
            **archived,
            **reported,
        )
        put(shop, "segments", f"S{number}", at, **reported)
        if number < 6:
            put(shop, "forms", f"O{number}", at)
    put(shop, "flows", "F8", None, archived=False)
    _set_counts(shop)
    return shop


def _set_counts(shop: SandboxAccount) -> None:
    for number in range(6):
        day = DAYS[number]
        for later in (day, min(day + timedelta(days=2), LAST)):
            sent = {"recipients": 10 + number, "delivered": 9, "opens_unique": 3, "conversion_value": 12.5 * number}
            flow = {"flow_id": f"F{number}", "flow_message_id": f"M{number}", "send_channel": "email"}
            shop.set_figures("flow", flow, later, sent)
            shop.set_figures("form", {"form_id": f"O{number}"}, later, {"viewed_form": 7 + number, "submits": 2})
            members = {"members_added": 3, "members_removed": 1, "total_members": 40 + number}
            shop.set_figures("segment", {"segment_id": f"S{number}"}, later, members)
        campaign = {"campaign_id": f"C{number}", "campaign_message_id": f"M{number}", "send_channel": "email"}
        shop.set_figures("campaign", campaign, (utc("2025-03-03T06:00:00") + timedelta(hours=17 * number)).date(), sent)


def cached_reflection() -> Callable[..., DestinationTable]:
    found: dict[tuple[str, str, tuple[str, ...]], DestinationTable] = {}

    def reflected(connection: sa.Connection, schema: str, name: str, filled: Collection[str] = ()) -> DestinationTable:
        key = (schema, name, tuple(filled))
        if key not in found:
            found[key] = reflect(connection, schema, name, filled)
        return found[key]

    return reflected


@contextmanager
def small_steps() -> Iterator[pytest.MonkeyPatch]:
    """Use small batches and pages, and no pauses between attempts."""
    with pytest.MonkeyPatch.context() as patch:
        for step in SMALL_STEPS:
            patch.setattr(*step)
        # The tables do not change, so thousands of runs need not look them up again.
        known = cached_reflection()
        for module in (io_manager, child_rows, repositories):
            patch.setattr(module, "reflect", known)
        yield patch
