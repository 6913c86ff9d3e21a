"""Requests and stores the metrics of flows, campaigns or forms for any range of days.

Their unique counts are Klaviyo's own for the whole range. A range usually costs one request of the values report, which
has a daily quota.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa

from klaviyo_pipeline.catalog import ExactMetrics
from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.klaviyo.report_rows import sum_known
from klaviyo_pipeline.klaviyo.reports import VALUES
from klaviyo_pipeline.orchestration.assets.lookup import Lookup
from klaviyo_pipeline.orchestration.assets.metric_loads import chosen_metric
from klaviyo_pipeline.orchestration.assets.report_fetcher import ReportFetcher, Row
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.planning.quota import Quota, daily_limit, spent_today
from klaviyo_pipeline.postgres.engine import in_transaction
from klaviyo_pipeline.postgres.exact_answers import store_answer


class _Unlogged:
    """Discards the notices of a request outside of a run. The stored answer names the refused statistics."""

    log = logging.Logger(__name__)
    log.addHandler(logging.NullHandler())

    def add_asset_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Does nothing, because no asset is materialized."""


def request_exactly(session: Session, exact: ExactMetrics, first: date, last: date) -> Quota:
    """Request the values of the days from `first` to `last`, both included, and store them. Return the used quota.

    The conversion metric is the first one, as in the daily report. Raises `SettingsError` if the time zone in the
    settings is not the account's own, and `QuotaSpent` if the report's daily quota is used up.
    """
    if not session.zone_is_right:
        raise SettingsError(session.zone_remedy)
    report = VALUES[exact.metrics.entity]
    metric = chosen_metric(session, exact.report) if report.needs_conversion_metric else None
    result = ReportFetcher(_Unlogged(), session, report, metric).request_days(report, first, last)
    key = exact.metrics.key
    rows = _by_object(result.rows, key, (*report.by_use.sums, *report.by_use.uniques))
    Lookup(session, exact.report.listing).fill(sorted({row[key] for row in rows if row[key]}))
    schema, endpoint = session.account.slug, report.endpoint

    def store(connection: sa.Connection) -> int:
        store_answer(
            connection,
            schema,
            exact,
            (first, last),
            asked_at=result.asked_at,
            conversion_metric_id=metric.id if metric is not None else None,
            refused=result.refused,
            rows=rows,
        )
        return spent_today(connection, schema, endpoint, session.now())

    spent = in_transaction(session.engine, store)
    return Quota(endpoint.name, daily_limit(endpoint) or 0, spent, session.count.sent_to(endpoint.name))


def _by_object(rows: Iterable[Row], key: str, counts: Sequence[str]) -> list[Row]:
    """One row for each object, with its counts summed over its messages. A count that no message has is None."""
    by_object: dict[str, list[Row]] = {}
    for row in rows:
        by_object.setdefault(row[key], []).append(row)
    return [
        {key: id, **{name: sum_known(row[name] for row in messages) for name in counts}}
        for id, messages in by_object.items()
    ]
