"""Fetches a report with all statistics that Klaviyo allows for a conversion metric."""

from __future__ import annotations

from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.refused_statistics import Ask, Given, most_statistics
from klaviyo_pipeline.klaviyo.report_types import Report
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.engine import in_transaction
from klaviyo_pipeline.postgres.refusals import forget_refusals, refusals_of, remember_refusal


def fetch_allowed(
    session: Session, report: Report, metric_id: str, fetch: Ask[Given], unwanted: frozenset[str] = frozenset()
) -> tuple[Given, frozenset[str]]:
    """The result of `fetch`, and the statistics that Klaviyo refuses for the metric.

    Statistics that were refused less than `REFUSAL_HOLDS` ago, and the `unwanted` ones, are not requested.
    Raises `ConversionMetricIneligible` if Klaviyo refuses all statistics.
    """
    schema, every = session.account.slug, frozenset(report.statistics)
    with session.engine.connect() as connection:
        stored = refusals_of(connection, schema, report.name)
    # A refusal of all statistics at once says nothing about single statistics.
    partial_refusals = (one.statistics for one in stored if one.metric_id == metric_id and one.statistics < every)
    known = next(partial_refusals, frozenset[str]())
    left_out = unwanted | known
    try:
        result, refused = most_statistics(report, left_out, fetch)
    except ConversionMetricIneligible:
        _remember(session, report, metric_id, every)
        raise
    if refused != left_out:
        _remember(session, report, metric_id, refused - unwanted)
    elif not known:
        in_transaction(session.engine, lambda connection: forget_refusals(connection, schema, [report.name], metric_id))
    return result, refused - unwanted


def _remember(session: Session, report: Report, metric_id: str, statistics: frozenset[str]) -> None:
    in_transaction(
        session.engine,
        lambda connection: remember_refusal(connection, session.account.slug, report.name, metric_id, statistics),
    )
