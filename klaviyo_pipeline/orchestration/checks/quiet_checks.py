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
        "No live object has stopped for longer than its own rhythm explains. An object with at least 10 deliveries or "
        "views on a usual day has stopped if it was silent on its last two or more usual weekdays, and on more of them "
        "than in any pause of the eight weeks before. A smaller object has stopped if it was silent for more than a "
        "week and for more than twice its longest pause. An object is reported while it stays quiet, for at most 30 "
        "days.",
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
        "No open or click rate was below half of its usual value on each of the last two days. The usual value is the "
        "median of the same weekday in the four weeks before. A fall counts only if it is larger than every fall in "
        "the eight weeks before. A fallen rate is reported for at most two weeks.",
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
