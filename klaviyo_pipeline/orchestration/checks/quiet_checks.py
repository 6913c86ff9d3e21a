"""Checks that find flows, forms and campaigns that went quiet. They read only Postgres."""

from __future__ import annotations

from collections.abc import Sequence

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.config.wording import some
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, passed, warning
from klaviyo_pipeline.reporting.quiet_objects import Problem, QuietObject, quiet_metrics, unsent_campaigns

QUIET_CHECKS = (
    Check(
        "live_objects_keep_going",
        "No live object has stopped for longer than its own rhythm explains. A busy object has stopped if it missed "
        "two due days in a row; any other object, if it was silent for more than a week and twice its longest pause. "
        "An object is reported while it stays quiet, for at most 30 days.",
        lambda ctx: _outcome(ctx, "stopped"),
    ),
    Check(
        "conversions_keep_coming",
        "No live object has had zero conversions (forms: submits) for longer than its own rates explain, although "
        "messages were delivered or the form was viewed. A possible cause is broken tracking.",
        lambda ctx: _outcome(ctx, "no conversions"),
    ),
    Check(
        "rates_stay_in_range",
        "No open or click rate has fallen to less than half of its usual value on two days in a row. The usual value "
        "is that of the same weekday in the four weeks before. Only a larger fall than any in the eight weeks before "
        "counts. A fallen rate is reported for at most two weeks.",
        lambda ctx: _outcome(ctx, "fell"),
    ),
)

UNSENT_CHECK = Check(
    "scheduled_campaigns_were_sent",
    "No campaign is still unsent a day after its send time, unless a person cancelled it.",
    lambda ctx: _reported(unsent_campaigns(ctx.connection, ctx.account.slug, ctx.account.timezone, ctx.now)),
)


def _outcome(ctx: CheckContext, problem: Problem) -> CheckOutcome:
    found = quiet_metrics(ctx.connection, ctx.account.slug, ctx.account.timezone, METRICS[ctx.asset])
    return _reported([one for one in found if one.problem == problem])


def _reported(found: Sequence[QuietObject]) -> CheckOutcome:
    if not found:
        return passed("no problem found")
    return warning(
        f"{some(found)}. Check in Klaviyo what changed.",
        objects={one.id: one.last_good_day.isoformat() for one in found},
    )
