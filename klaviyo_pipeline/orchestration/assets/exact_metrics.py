"""Requests the metrics of flows for any range of days, with Klaviyo's own uniques of the whole range, and stores them.

A range costs one request of the values report, which has a daily quota.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from klaviyo_pipeline.catalog import FLOW_REPORT
from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.klaviyo.report_rows import sum_known
from klaviyo_pipeline.klaviyo.reports import FLOW_VALUES
from klaviyo_pipeline.orchestration.assets.lookup import Lookup
from klaviyo_pipeline.orchestration.assets.metric_loads import chosen_metric
from klaviyo_pipeline.orchestration.assets.report_fetcher import ReportFetcher, Row
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.planning.quota import Quota, daily_limit, spent_today
from klaviyo_pipeline.postgres.exact_answers import store_answer


class _Unlogged:
    """The notices of a request outside of a run. The answer is stored with its refused statistics."""

    log = logging.Logger(__name__)
    log.addHandler(logging.NullHandler())

    def add_asset_metadata(self, metadata: Mapping[str, Any]) -> None:
        """There is no asset."""


def request_exactly(session: Session, first: date, last: date) -> Quota:
    """Request the flow values of these days, both included, and store them. Return what the request cost.

    The conversion metric is that of `flow_report`. Raises `SettingsError` if the days of the settings are not the
    account's, and `QuotaSpent` if the day's requests are used up.
    """
    if not session.zone_is_right:
        raise SettingsError(session.zone_remedy)
    metric = chosen_metric(session, FLOW_REPORT)
    result = ReportFetcher(_Unlogged(), session, FLOW_VALUES, metric).request_days(FLOW_VALUES, first, last)
    rows = _by_flow(result.rows)
    Lookup(session, FLOW_REPORT.listing).fill(sorted({row["flow_id"] for row in rows if row["flow_id"]}))
    schema, endpoint = session.account.slug, FLOW_VALUES.endpoint
    with session.engine.begin() as connection:
        store_answer(
            connection,
            schema,
            (first, last),
            asked_at=result.asked_at,
            conversion_metric_id=metric.id,
            refused=result.refused,
            rows=rows,
        )
        spent = spent_today(connection, schema, endpoint, session.now())
    return Quota(endpoint.name, daily_limit(endpoint) or 0, spent, session.count.sent_to(endpoint.name))


def _by_flow(rows: Iterable[Row]) -> list[Row]:
    """One row for each flow: its counts, summed over its messages. A count that no message has is None."""
    by_flow: dict[str, list[Row]] = {}
    for row in rows:
        by_flow.setdefault(row["flow_id"], []).append(row)
    counts = (*FLOW_VALUES.by_use.sums, *FLOW_VALUES.by_use.uniques)
    return [
        {"flow_id": flow_id, **{name: sum_known(row[name] for row in messages) for name in counts}}
        for flow_id, messages in by_flow.items()
    ]
