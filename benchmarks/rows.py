"""Frames like those of the assets: objects with 1.5 kB of JSON, and rows of the flow report."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from klaviyo_pipeline.catalog import FLOW_REPORT
from klaviyo_pipeline.klaviyo.listings import FLOWS
from klaviyo_pipeline.klaviyo.report_types import GROUPS, OTHER_STATISTICS
from klaviyo_pipeline.orchestration.assets.frames import record_frame, table_frame
from klaviyo_pipeline.orchestration.assets.report_assets import frame_columns
from klaviyo_pipeline.postgres.write.staging import WINDOW

FIRST_DAY = date(2025, 1, 1)
RAW_BYTES = 1_500
MESSAGES = 3


def observed(round_: int) -> datetime:
    """The observation time of the n-th sync."""
    return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(hours=round_)


def entities(count: int, windows: int, round_: int = 0, changed: float = 0.0) -> pd.DataFrame:
    """Flows with 1.5 kB of JSON each, over this number of windows. A share of them changed since the first round."""
    rows = [_flow(number, windows, number < count * changed and round_) for number in range(count)]
    return record_frame(
        FLOWS.columns, rows, [observed(round_)] * count, [number * windows // count for number in range(count)]
    )


def _flow(number: int, windows: int, round_: int) -> dict[str, Any]:
    luck = random.Random(number)
    moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    name = f"Flow {number}" + (f", round {round_}" if round_ else "")
    attributes = {
        "name": name,
        "status": luck.choice(["live", "draft", "manual"]),
        "archived": False,
        "created": moment.isoformat(),
        "updated": moment.isoformat(),
        "trigger_type": luck.choice(["Metric", "Added to List"]),
    }
    ids = [f"{luck.getrandbits(48):012x}" for _ in range((RAW_BYTES - 260) // 16)]
    raw = {"id": f"F{number:06}", "type": "flow", "attributes": attributes, "relationships": {"flow-actions": ids}}
    return {
        "id": raw["id"],
        "name": name,
        "status": attributes["status"],
        "archived": False,
        "trigger_type": attributes["trigger_type"],
        "created_at": moment,
        "updated_at": moment,
        "raw": raw,
    }


def report_rows(count: int, days: int, round_: int = 0, changed: float = 0.0) -> pd.DataFrame:
    """Rows of the flow report with every statistic, over this number of days. A share of them is restated."""
    rows = [_figures(number, days, round_, number < count * changed and round_ > 0) for number in range(count)]
    return table_frame([{OTHER_STATISTICS: None, GROUPS: 1, **row} for row in rows], frame_columns(FLOW_REPORT))


def _figures(number: int, days: int, round_: int, restated: bool) -> dict[str, Any]:
    luck = random.Random(number)
    message, day = divmod(number, days)
    statistics = {
        name: Decimal(str(round(luck.random(), 6) if name.endswith("rate") else luck.randrange(100_000) / 10))
        for name in FLOW_REPORT.report.statistics
    }
    if restated:
        statistics["conversions"] += round_
    return {
        "flow_id": f"F{message // MESSAGES:06}",
        "flow_message_id": f"M{message:06}",
        "send_channel": "email",
        "date": FIRST_DAY + timedelta(days=day),
        **statistics,
        "conversion_metric_id": "RPlacd",
        "observed_at": observed(round_),
        WINDOW: day,
    }
