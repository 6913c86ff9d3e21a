"""Assets and a schedule that the project had before, and two assets that read the account's metrics."""

import dagster as dg
import pandas as pd

from existing_project.postgres import Postgres

METRICS = dg.AssetKey(["shop_uk", "flow_metrics"])
DAYS = dg.DailyPartitionsDefinition("2025-03-01", timezone="Europe/London", end_offset=1)


@dg.asset(group_name="finance")
def calendar(postgres: Postgres) -> None:
    """A table without data from Klaviyo."""
    with postgres.connect() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS finance")
        connection.execute("CREATE TABLE IF NOT EXISTS finance.calendar (day date PRIMARY KEY)")


@dg.asset(group_name="finance", deps=[METRICS])
def revenue_by_flow(postgres: Postgres) -> dg.MaterializeResult:
    """The revenue of each flow over all days, computed with SQL."""
    with postgres.connect() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS finance")
        connection.execute("DROP TABLE IF EXISTS finance.revenue_by_flow")
        rows = connection.execute(
            """
            CREATE TABLE finance.revenue_by_flow AS
            SELECT flow_id, max(flow_name) AS flow_name, sum(conversion_value) AS revenue
            FROM shop_uk.flow_metrics
            GROUP BY flow_id
            """
        ).rowcount
    return dg.MaterializeResult(metadata={"dagster/row_count": rows})


@dg.asset(
    key=["finance", "revenue_by_day"],
    group_name="finance",
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    ins={"metrics": dg.AssetIn(key=METRICS)},
    io_manager_key="tables",
    metadata={"primary_key": "date", "partition_expr": "date", "replace_windows": True},
)
def revenue_by_day(metrics: pd.DataFrame) -> pd.DataFrame:
    """The revenue of each day of the run. The first write creates the table."""
    revenue = metrics.groupby("date", as_index=False)["conversion_value"].sum()
    return revenue.rename(columns={"conversion_value": "revenue"})


nightly = dg.define_asset_job("nightly", selection=dg.AssetSelection.assets("calendar", "revenue_by_flow"))
nightly_at_five = dg.ScheduleDefinition(job=nightly, cron_schedule="0 5 * * *")
