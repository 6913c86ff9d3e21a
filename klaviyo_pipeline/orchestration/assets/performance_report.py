"""The performance page as an asset: the metrics of the last days as one HTML file, written again after each update."""

from datetime import UTC

import dagster as dg

from klaviyo_pipeline.catalog import METRICS, period_of
from klaviyo_pipeline.config.settings import STATE_DIR, Account
from klaviyo_pipeline.dagster_internals.signatures import cache_signature
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.reporting.content import DAYS, gather, last_days
from klaviyo_pipeline.reporting.queries import Reader

PERFORMANCE_REPORT = "performance_report"
FOLDER = STATE_DIR / "reports"


class ReportConfig(dg.Config):
    """The number of days that the page covers, up to the last day with final values."""

    days: int = DAYS


def performance_report_asset(account: Account) -> dg.AssetsDefinition:
    """The performance page of one account. Each period has its own file."""

    @dg.asset(
        name=PERFORMANCE_REPORT,
        key_prefix=account.slug,
        group_name=account.slug,
        kinds={"html"},
        deps=[dg.AssetKey([account.slug, name]) for name in METRICS if period_of(name) == "day"],
        # Off until the automation sensor is switched on.
        automation_condition=(
            dg.AutomationCondition.any_deps_updated()
            & ~dg.AutomationCondition.in_progress()
            & ~dg.AutomationCondition.any_deps_in_progress()
        ),
        description=(
            "One HTML page about the last days with final values: key metrics, charts, top flows, campaigns by "
            "send day, forms, segments, and data freshness. The file is written to `.klaviyo/reports`."
        ),
    )
    @cache_signature
    def performance_report(
        context: dg.AssetExecutionContext, config: ReportConfig, warehouse: Warehouse
    ) -> dg.MaterializeResult[None]:
        # Imported here because it takes a second, which every load of the code location would take too.
        from klaviyo_pipeline.reporting.page import render, write
        from klaviyo_pipeline.reporting.preview import key_metrics_table

        with warehouse.engine(account.slug) as engine, snapshot(engine) as connection:
            reader = Reader(connection, account.slug)
            content = gather(reader, last_days(reader, account.zone, config.days), account.zone)
        file = FOLDER / account.slug / f"performance-{content.period.first}-to-{content.period.last}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(render(content), file)
        for notice in content.notices:
            context.log.warning(notice)
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(file),
                "key_metrics": dg.MetadataValue.md(key_metrics_table(content.key_metrics, content.period)),
                "days": len(content.period.days),
                "bytes": file.stat().st_size,
                "made_at": dg.MetadataValue.timestamp(content.made_at.astimezone(UTC)),
            }
        )

    return performance_report
