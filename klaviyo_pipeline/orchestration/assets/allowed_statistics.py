"""What Klaviyo gives of a report for a conversion metric: as many statistics as it does not refuse."""

from __future__ import annotations

from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.refused_statistics import Ask, Given, most_statistics
from klaviyo_pipeline.klaviyo.report_types import Report
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.refusals import forget_refusals, refusals_of, remember_refusal


def given(
    session: Session, report: Report, metric_id: str, ask: Ask[Given], unwanted: frozenset[str] = frozenset()
) -> tuple[Given, frozenset[str]]:
    """The answer, and the statistics that Klaviyo refuses for the metric.

    What it is known to refuse, and what is `unwanted`, is not asked for. Raises `ConversionMetricIneligible` where it
    refuses all.
    """
    schema, every = session.account.slug, frozenset(report.statistics)
    with session.engine.connect() as connection:
        stored = refusals_of(connection, schema, report.name)
    # Where the metric was refused altogether, nothing is known of single statistics.
    cursor_hour = (one.statistics for one in stored if one.metric_id == metric_id and one.statistics < every)
    known = next(cursor_hour, frozenset[str]())
    left_out = unwanted | known
    try:
        answer, lacking = most_statistics(report, left_out, ask)
    except ConversionMetricIneligible:
        _remember(session, report, metric_id, every)
        raise
    if lacking != left_out:
        _remember(session, report, metric_id, lacking - unwanted)
    elif not known:
        with session.engine.begin() as connection:
            forget_refusals(connection, schema, [report.name], metric_id)
    return answer, lacking - unwanted


def _remember(session: Session, report: Report, metric_id: str, statistics: frozenset[str]) -> None:
    with session.engine.begin() as connection:
        remember_refusal(connection, session.account.slug, report.name, metric_id, statistics)
