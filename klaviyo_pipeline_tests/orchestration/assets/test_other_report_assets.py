"""The reports of campaigns, forms and segments equal the account's own values, in time zones east and west of UTC."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on, put

pytestmark = pytest.mark.slow

COUNTED = {
    "campaign": ("recipients", "conversion_value"),
    "form": ("viewed_form", "submits"),
    "segment": ("members_added", "total_members"),
}

Figures = dict[tuple[str, date], tuple[Decimal, ...]]


def fill(shop: SandboxAccount, kind: str, first: date, last: date) -> Figures:
    """Give two objects different values on each day; a campaign is sent in the first or last second of a day."""
    expected: Figures = {}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        for place, moment in enumerate((time(0, 0, 0), time(23, 59, 59))):
            id = f"{kind}{place}-{day}" if kind == "campaign" else f"{kind}{place}"
            figures = Decimal(100 + number + place), Decimal(f"{7 + number}.25")
            groupings = {f"{kind}_id": id}
            if kind == "campaign":
                sent = datetime.combine(day, moment, ZoneInfo(shop.timezone))
                put(shop, "campaigns", id, sent, status="Sent", send_time=sent)
                groupings |= {"campaign_message_id": id, "send_channel": "email"}
            else:
                put(shop, f"{kind}s", id, datetime.combine(first, moment, ZoneInfo(shop.timezone)))
            shop.set_figures(kind, groupings, day, dict(zip(COUNTED[kind], map(float, figures), strict=True)))
            expected[id, day] = figures
    return expected


def stored(pipeline: Pipeline, kind: str, table: str) -> Figures:
    found = pipeline.rows(f"SELECT {kind}_id, date, {', '.join(COUNTED[kind])} FROM {kind}_{table}")
    return {(row[0], row[1]): row[2:] for row in found}


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("America/New_York", "2025-03-07", "2025-03-11"),
        ("America/New_York", "2025-10-31", "2025-11-04"),
        ("Pacific/Auckland", "2025-04-04", "2025-04-08"),
        ("Pacific/Auckland", "2025-09-26", "2025-09-30"),
    ],
)
def test_every_report_equals_the_accounts_values_over_a_change_of_the_clocks(
    zone: str, first: str, last: str, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty_shop(zone)
    expected = {kind: fill(shop, kind, date.fromisoformat(first), date.fromisoformat(last)) for kind in COUNTED}
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        for kind, figures in expected.items():
            for table in ("report", "metrics"):
                pipeline.run(f"{kind}_{table}", first, last)
                assert stored(pipeline, kind, table) == figures


def test_a_campaigns_message_may_have_the_campaigns_own_id(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = empty_shop()
    day = date(2025, 3, 10)
    expected = fill(shop, "campaign", day, day)
    other = {"campaign_id": f"campaign0-{day}", "campaign_message_id": "M2", "send_channel": "sms"}
    shop.set_figures("campaign", other, day, {"recipients": 5})
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        for table in ("report", "metrics"):
            pipeline.run(f"campaign_{table}", day.isoformat())
        assert pipeline.one("SELECT count(*) FROM campaign_report WHERE campaign_id = campaign_message_id") == 2
        sums = dict(pipeline.rows("SELECT campaign_id, recipients FROM campaign_metrics"))
        assert sums == {id: figures[0] + 5 * (id == other["campaign_id"]) for (id, _), figures in expected.items()}
