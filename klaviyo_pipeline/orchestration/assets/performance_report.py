"""The performance report as an asset: one HTML page with the metrics of the last days."""

from datetime import UTC

import dagster as dg

from klaviyo_pipeline.catalog import CONVERSIONS_DAILY, METRICS, switched_on
from klaviyo_pipeline.config.extras import naming_extra
from klaviyo_pipeline.config.settings import Account, state_dir
from klaviyo_pipeline.orchestration.assets.account_asset import NOTHING_IN_PROGRESS, account_asset
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.postgres.engine import snapshot
from klaviyo_pipeline.reporting.content import DAYS, gather, last_days
from klaviyo_pipeline.reporting.queries import Reader

PERFORMANCE_REPORT = "performance_report"


class ReportConfig(dg.Config):
    """The number of days that the page covers, up to the last day with final values."""

    days: int = DAYS


def performance_report_asset(account: Account) -> dg.AssetsDefinition:
    """The performance report of one account. Each period has its own file."""

    @account_asset(
        account,
        PERFORMANCE_REPORT,
        table="",
        config_schema=ReportConfig.to_config_schema(),
        kinds={"html"},
        deps=[
            dg.AssetKey(account.asset_key(name))
            for name in (*METRICS, CONVERSIONS_DAILY)
            if name in switched_on(account.assets)
        ],
        # Has no effect until you switch on the automation sensor.
        automation_condition=dg.AutomationCondition.any_deps_updated() & NOTHING_IN_PROGRESS,
        description=(
            "One HTML page about the last days with final values: objects that went quiet, key metrics, charts, "
            "revenue by send date and by order date, top flows, campaigns by send day, A/B tests, forms, segments, and "
            f"data freshness. The file is in `reports/{account.slug}` of the folder `KLAVIYO_STATE_DIR`, by default "
            "`.klaviyo`."
        ),
    )
    def performance_report(context: dg.AssetExecutionContext, access: AccountAccess) -> dg.MaterializeResult[None]:
        config = ReportConfig(**context.op_execution_context.op_config)
        # The import takes a second. At the top of the module, it would slow down every load of the code location.
        with naming_extra(PERFORMANCE_REPORT):
            from klaviyo_pipeline.reporting.page import render, write
            from klaviyo_pipeline.reporting.preview import key_metrics_table

        with access.warehouse.engine(account.slug) as engine, snapshot(engine) as connection:
            reader = Reader(connection, account.slug)
            content = gather(reader, last_days(reader, account.zone, config.days), account.zone)
        file = (
            state_dir() / "reports" / account.slug / f"performance-{content.period.first}-to-{content.period.last}.html"
        )
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
