"""The check of the times at which rows were observed."""

from __future__ import annotations

from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, counted, error, passed
from klaviyo_pipeline.postgres.future_times import REMEDY, rows_ahead


def observations_are_past(ctx: CheckContext) -> CheckOutcome:
    rows = rows_ahead(ctx.connection, ctx.account.slug, ctx.asset)
    if not rows:
        return passed("every observation lies in the past")
    return error(
        f"{counted(rows, 'row')} of {ctx.asset} were observed ahead of the database's clock, and later "
        f"observations lose against them. {REMEDY}.",
        rows=rows,
    )


CLOCK_CHECK = Check(
    "observations_are_past",
    "No row was observed, and no window requested, ahead of the database's clock: later observations would lose.",
    observations_are_past,
)
