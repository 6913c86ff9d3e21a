"""A check of the times at which rows were observed."""

from __future__ import annotations

from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, error, passed
from klaviyo_pipeline.postgres.future_times import REMEDY, rows_ahead


def observations_are_past(ctx: CheckContext) -> CheckOutcome:
    rows = rows_ahead(ctx.connection, ctx.account.slug, ctx.asset)
    if not rows:
        return passed("all observation times are in the past")
    return error(
        f"{ctx.asset} or its ledger has {counted(rows, 'row')} with a time ahead of the database's clock: newer "
        f"observations cannot replace them. {REMEDY}.",
        rows=rows,
    )


CLOCK_CHECK = Check(
    "observations_are_past",
    "No observation time or request time is ahead of the database's clock. Newer observations could not replace such "
    "rows.",
    observations_are_past,
)
