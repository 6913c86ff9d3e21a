"""An account without any error, synced once and copied for each test, which can then break the copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from klaviyo_pipeline.catalog import LISTED_IN_FULL
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration.checks.build_checks import check_context, database_checks
from klaviyo_pipeline.orchestration.checks.check import CheckOutcome
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import SLUG, Pipeline, empty_shop, pipeline_on, put, throw_away_database, utc

FIRST, LAST = date(2025, 3, 1), date(2025, 4, 10)
NOW = utc("2025-04-11T06:00:00")
"""Six hours after the last window."""

OLD = utc("2024-06-01T12:00:00")
EMAIL = {"send_channel": "email"}
ENTITIES = ("flows", "campaigns", "forms", "segments")
KINDS = ("flow", "campaign", "form", "segment")


def sound_shop(**options: Any) -> SandboxAccount:
    """Two objects of each kind, with values for each day on which a report would contain them."""
    shop = empty_shop(**options)
    for number in (1, 2):
        put(shop, "flows", f"F{number}", OLD, status="live", trigger_type="Metric", created=OLD)
        put(shop, "forms", f"W{number}", OLD, status="live", ab_test=False, created_at=OLD)
        put(shop, "segments", f"S{number}", OLD, is_active=True, created=OLD)
        sent = utc(f"2025-03-{10 * number + 5}T15:00:00")
        put(shop, "campaigns", f"C{number}", sent, status="Sent", send_time=sent, created_at=OLD)
        campaign = {"campaign_id": f"C{number}", "campaign_message_id": f"C{number}", **EMAIL}
        shop.set_figures("campaign", campaign, sent.date(), _sends(400))
        for day in days():
            flow = {"flow_id": f"F{number}", "flow_message_id": f"M{number}", **EMAIL}
            shop.set_figures("flow", flow, day, _sends(day.day * number))
            shop.set_figures("form", {"form_id": f"W{number}"}, day, {"viewed_form": 9, "submits": 2})
            shop.set_figures("segment", {"segment_id": f"S{number}"}, day, {"members_added": 3, "total_members": 50})
    return shop


def days() -> list[date]:
    return [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]


def _sends(recipients: int) -> dict[str, float]:
    return {
        "recipients": recipients,
        "delivered": recipients,
        "opens": recipients,
        "opens_unique": recipients // 2,
        "conversions": 2,
        "conversion_uniques": 1,
        "conversion_value": 12.35,
    }


def sync(pipeline: Pipeline) -> None:
    """Every asset over every day."""
    for entity in ENTITIES:
        pipeline.run(entity, FIRST.isoformat(), LAST.isoformat())
        pipeline.run(f"{entity}_census")
    for entity in LISTED_IN_FULL:
        pipeline.run(entity)
    for kind in KINDS:
        for asset in (f"{kind}_report", f"{kind}_metrics"):
            pipeline.run(asset, FIRST.isoformat(), LAST.isoformat())
    for word, first, last in (("weekly", "2025-02-24", "2025-04-07"), ("monthly", "2025-03-01", "2025-04-01")):
        pipeline.run(f"flow_report_{word}", first, last)
        pipeline.run(f"flow_metrics_{word}", first, last)
    pipeline.run("conversions_daily", FIRST.isoformat(), LAST.isoformat())


@pytest.fixture(scope="session")
def synced(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """URL of a database to copy, that contains the synced account."""
    with throw_away_database(postgres_server, migrated_template) as url:
        with pytest.MonkeyPatch.context() as patch, pipeline_on(url, sound_shop(), patch, start_date=FIRST) as pipeline:
            sync(pipeline)
        yield url


@dataclass
class Stored:
    """The synced account's schema, to break and to check."""

    engine: sa.Engine
    account: Account

    def run(self, statement: str, **parameters: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(f"SET LOCAL search_path TO {SLUG}"))
            connection.execute(sa.text(statement), parameters)

    def check(self, asset: str, name: str, now: datetime = NOW) -> CheckOutcome:
        """The outcome of one check of one asset at `now`."""
        [declared] = [check for check in database_checks(self.account)[asset] if check.name == name]
        with check_context(self.engine, self.account, asset) as ctx:
            return declared.examine(replace(ctx, now=now))


@pytest.fixture
def stored(postgres_server: str, synced: str) -> Iterator[Stored]:
    """A copy of the synced account that only this test uses."""
    with throw_away_database(postgres_server, synced) as url:
        engine = create_engine(url)
        yield Stored(engine, Account(slug=SLUG, start_date=FIRST))
        engine.dispose()
