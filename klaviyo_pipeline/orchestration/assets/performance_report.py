"""The performance page as an asset: the metrics of the last days as one HTML file, written anew after each of them."""

from datetime import UTC

import dagster as dg

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.config.settings import STATE_DIR, Account
from klaviyo_pipeline.dagster_internals.signatures import cache_signature
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.reporting.content import DAYS, gather, last_days
from klaviyo_pipeline.reporting.queries import Reader

PERFORMANCE_REPORT = "performance_report"
FOLDER = STATE_DIR / "reports"


class ReportConfig(dg.Config):
    """How many days the page covers, up to the last one whose figures are final."""

    days: int = DAYS


def performance_report_asset(account: Account) -> dg.AssetsDefinition:
    """The performance page of one account. A run of a later day writes another file."""

    @dg.asset(
        name=PERFORMANCE_REPORT,
        key_prefix=account.slug,
        group_name=account.slug,
        kinds={"html"},
        deps=[dg.AssetKey([account.slug, name]) for name in METRICS],
        # Off until the automation sensor is switched on.
        automation_condition=(
            dg.AutomationCondition.any_deps_updated()
            & ~dg.AutomationCondition.in_progress()
            & ~dg.AutomationCondition.any_deps_in_progress()
        ),
        description=(
            "One HTML page of the last days whose figures are final: key figures, charts, top flows, campaigns by "
            "send day, forms, segments, and how fresh the data is. It lies below `.klaviyo/reports`."
        ),
    )
    @cache_signature
    def performance_report(
        context: dg.AssetExecutionContext, config: ReportConfig, warehouse: Warehouse
    ) -> dg.MaterializeResult[None]:
        # Drawing takes a second to import, and a code location should not wait for it.
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
