"""The conversion metrics that a run requests, and the load of each metric.

`KLAVIYO_CONVERSION_METRIC_ID` may name several metrics. The metrics tables use the first metric, whose windows are in
the ledger under the report's name. The other ones are called further metrics. If the setting names no metric, a metric
of the account is chosen as the first one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import dagster as dg

from klaviyo_pipeline.catalog import ReportAsset
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric, find_conversion_metric
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.planning.planner import METRICS_TAG
from klaviyo_pipeline.postgres.ledger import of_metric
from klaviyo_pipeline.postgres.refusals import METRIC_IS_PASSED_OVER, refusals
from klaviyo_pipeline.postgres.write.io_manager import report_partitions
from klaviyo_pipeline.postgres.write.loads import Batch, Load
from klaviyo_pipeline.windows import Window

Read = Callable[[Session, ConversionMetric | None], Iterator[Batch]]
"""Reads a report for a further conversion metric. None stands for the first metric, or for a report without metrics."""


class WrongTimezone(RuntimeError):
    """The windows are not days of the account's time zone, so values would be stored under the wrong day."""


def load_by_metric(
    context: dg.AssetExecutionContext,
    access: AccountAccess,
    account: Account,
    asset: str,
    windows: Sequence[Window],
    metric_ids: Sequence[str | None],
    read: Read,
) -> Load:
    """The load of a run. It contains one load for each of the `metric_ids`, which `requested_metrics` returns."""
    api_usage: Counter[str] = Counter()

    def batches(metric_id: str | None) -> Iterator[Batch]:
        metric = None if metric_id is None else ConversionMetric(metric_id, None, "a further conversion metric")
        with access.klaviyo.session(account, access.warehouse, context.run.run_id) as session:
            if not session.zone_is_right:
                raise WrongTimezone(session.zone_remedy)
            yield from read(session, metric)
            api_usage.update(session.count.metadata())
            context.add_asset_metadata(dict(api_usage))

    def load(metric_id: str | None) -> Load:
        ledger = None if metric_id is None else of_metric(asset, metric_id)
        return Load(batches=batches(metric_id), windows=windows, ledger=ledger)

    first, *others = map(load, metric_ids)
    return replace(first, on_synced=report_partitions(context), then=others)


def requested_metrics(
    context: dg.AssetExecutionContext, account: Account, *, has_metric: bool = True
) -> list[str | None]:
    """The conversion metrics that this run requests: those in its tag or, without the tag, all of the account.

    None stands for the first metric. For an asset without conversion metrics, None is the only item.
    """
    if not has_metric:
        return [None]
    named = context.run.tags.get(METRICS_TAG, "").split(",")
    every = account.conversion_metrics
    requested = [one for one in every if one in named] or every
    return [None if one == account.first_conversion_metric else one for one in requested] or [None]


def chosen_metric(session: Session, spec: ReportAsset) -> ConversionMetric:
    """The first conversion metric: that of the setting, or one that is found in the account.

    A metric for which Klaviyo refuses this report is not chosen, unless the setting names it.
    """
    first = session.account.first_conversion_metric
    return find_conversion_metric(session.client, first, refused_metrics(session, spec))


def refused_metrics(session: Session, spec: ReportAsset) -> frozenset[str]:
    """The conversion metrics for which Klaviyo refused every statistic of this report in the last 30 days."""
    now = session.now()
    with session.engine.connect() as connection:
        stored = refusals(connection, session.account.slug)
    return frozenset(
        one.metric_id
        for one in stored
        if one.report == spec.report.name
        and one.statistics >= frozenset(spec.report.statistics)
        and now - one.refused_at < METRIC_IS_PASSED_OVER
    )
