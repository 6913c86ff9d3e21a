"""The flow report: Klaviyo's flow series by flow, message, channel and day.

One request covers up to 59 days, however many windows the run has; its days are replaced as a whole, in one
transaction. Days on which a message has no figure at all are not stored: whether an answer lists them depends on the
span that was asked, and the ledger already says that the day was asked.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg

from klaviyo_pipeline.assets.frames import table_frame
from klaviyo_pipeline.assets.lookup import Lookup
from klaviyo_pipeline.klaviyo.conversion import find_conversion_metric
from klaviyo_pipeline.klaviyo.errors import CursorExpired
from klaviyo_pipeline.klaviyo.listings import FLOWS
from klaviyo_pipeline.klaviyo.reports import DAILY_SPAN_DAYS, FLOW_SERIES, body
from klaviyo_pipeline.partitions import Window, report_windows
from klaviyo_pipeline.postgres.account import remember_conversion_metric
from klaviyo_pipeline.postgres.io_manager import PARTITION_EXPR, REPLACE_WINDOWS, window_metadata
from klaviyo_pipeline.postgres.ledger import Synced
from klaviyo_pipeline.postgres.loads import Batch, Complete, Load
from klaviyo_pipeline.postgres.merge import WINDOW, DaySpan
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.resources import KlaviyoResource, Session
from klaviyo_pipeline.settings import Account

FLOW_REPORT = "flow_report"
ASK_AGAIN = 2
"""How often a span is asked again when a cursor expires between its pages."""

COLUMNS = (*FLOW_SERIES.keys, "date", *FLOW_SERIES.statistics, "conversion_metric_id", "observed_at", WINDOW)


class WrongTimezone(RuntimeError):
    """The windows are not days of the account: a report would count figures under the wrong day."""


def flow_report_asset(account: Account) -> dg.AssetsDefinition:
    """The flow report of one account, by day."""
    plan = report_windows(account)

    @dg.asset(
        name=FLOW_REPORT,
        key_prefix=account.slug,
        group_name=account.slug,
        partitions_def=plan.definition,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="postgres",
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        deps=[dg.AssetKey([account.slug, "flows"])],
        metadata={
            PARTITION_EXPR: "date",
            REPLACE_WINDOWS: True,
            "dagster/table_name": f"{account.slug}.{FLOW_REPORT}",
        },
        description=(
            "Klaviyo's flow series report: every statistic by flow, message, channel and day of the send, as Klaviyo "
            "states it. Figures change while attribution is open, so the trailing days are asked again."
        ),
    )
    def flow_report(context: dg.AssetExecutionContext, klaviyo: KlaviyoResource, warehouse: Warehouse) -> Load:
        windows = plan.of_keys(context.partition_keys)

        def batches() -> Iterator[Batch]:
            with klaviyo.session(account, warehouse) as session:
                if not session.zone_is_right:
                    raise WrongTimezone(session.zone_remedy)
                metric = find_conversion_metric(session.client, account.conversion_metric_id)
                context.log.info(f"conversion metric {metric.id}: {metric.how}")
                with session.engine.begin() as connection:
                    remember_conversion_metric(connection, account.slug, metric.id)
                for batch in _read_spans(context, session, windows, metric.id):
                    _fill_flows(context, session, batch)
                    yield batch
                context.add_asset_metadata(
                    {
                        **session.count.metadata(),
                        "conversion_metric": f"{metric.id} ({metric.how})",
                    }
                )

        def on_synced(synced: Synced) -> None:
            context.add_asset_metadata(window_metadata(synced), partition_key=synced.window.key)

        return Load(batches=batches(), windows=windows, on_synced=on_synced)

    return flow_report


def _read_spans(
    context: dg.AssetExecutionContext, session: Session, windows: Sequence[Window], metric_id: str
) -> Iterator[Batch]:
    for first in range(0, len(windows), DAILY_SPAN_DAYS):
        span = windows[first : first + DAILY_SPAN_DAYS]
        for attempt in range(ASK_AGAIN + 1):
            try:
                batch = _read_span(context, session, span, first, metric_id)
                break
            except CursorExpired:
                if attempt == ASK_AGAIN:
                    raise
        context.log.info(f"{span[0].key} to {span[-1].key}, {len(batch.frame)} rows")
        yield batch


def _read_span(
    context: dg.AssetExecutionContext,
    session: Session,
    span: Sequence[Window],
    first_index: int,
    metric_id: str,
) -> Batch:
    days = {date.fromisoformat(window.key): first_index + place for place, window in enumerate(span)}
    rows: list[dict[str, Any]] = []
    requests = 0
    asked_at: datetime | None = None
    request = body(FLOW_SERIES, min(days), max(days), metric_id)
    for page in session.client.report_pages(FLOW_SERIES, request):
        asked_at = asked_at or page.observed_at
        requests += page.requests
        for name in [*page.unknown, *page.missing]:
            context.log.warning(f"flow report: the statistic {name} is not as declared; the rest is kept")
        rows.extend(
            {**row, "conversion_metric_id": metric_id, "observed_at": asked_at, WINDOW: days[day]}
            for row in page.rows
            if isinstance(day := row["date"], date) and day in days and _has_figures(row)
        )
    assert asked_at is not None
    completes = [Complete(window, asked_at, requests if place == 0 else 0) for place, window in enumerate(span)]
    replaces = DaySpan("date", min(days), max(days), asked_at, days)
    return Batch(table_frame(rows, COLUMNS), completes, replaces, metric_id)


def _has_figures(row: dict[str, object]) -> bool:
    return any(isinstance(figure, Decimal) and figure != 0 for figure in (row[name] for name in FLOW_SERIES.statistics))


def _fill_flows(context: dg.AssetExecutionContext, session: Session, batch: Batch) -> None:
    """Bring the flows that the report names and the table lacks, so that the metrics know their names."""
    ids = sorted(set(batch.frame["flow_id"]))
    stored, missed = Lookup(session, FLOWS).fill(ids)
    if stored or missed:
        context.log.info(f"{stored} flows were looked up and stored, {missed} Klaviyo has no more")
