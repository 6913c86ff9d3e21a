"""Checks that find flows, forms and campaigns that went quiet. They read Postgres alone."""

from __future__ import annotations

from collections.abc import Sequence

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.config.wording import some
from klaviyo_pipeline.orchestration.checks.check import Check, CheckContext, CheckOutcome, passed, warning
from klaviyo_pipeline.reporting.quiet_objects import Problem, QuietObject, quiet_metrics, unsent_campaigns

QUIET_CHECKS = (
    Check(
        "live_objects_keep_going",
        "No live object stopped for longer than its own rhythm explains: a busy one on two days on which it is due, "
        "any other for a week and twice its longest pause. It is named while it stays quiet, for at most 30 days.",
        lambda ctx: _outcome(ctx, "stopped"),
    ),
    Check(
        "conversions_keep_coming",
        "No live object has zero conversions (forms: submits) while it goes on, as with broken tracking, for longer "
        "than its own rates explain.",
        lambda ctx: _outcome(ctx, "no conversions"),
    ),
    Check(
        "rates_stay_in_range",
        "No open or click rate fell to less than half on two days in a row, compared with the same weekday of the four "
        "weeks before, and by more than in the eight weeks before. It is named for at most two weeks.",
        lambda ctx: _outcome(ctx, "fell"),
    ),
)

UNSENT_CHECK = Check(
    "scheduled_campaigns_were_sent",
    "No campaign is unsent a day after its send time, unless a person cancelled it.",
    lambda ctx: _told(unsent_campaigns(ctx.connection, ctx.account.slug, ctx.account.timezone, ctx.now)),
)


def _outcome(ctx: CheckContext, problem: Problem) -> CheckOutcome:
    found = quiet_metrics(ctx.connection, ctx.account.slug, ctx.account.timezone, METRICS[ctx.asset])
    return _told([one for one in found if one.problem == problem])


def _told(found: Sequence[QuietObject]) -> CheckOutcome:
    if not found:
        return passed("no such object was found")
    return warning(
        f"{some(found)}. Check in Klaviyo what changed.",
        objects={one.id: one.last_good_day.isoformat() for one in found},
    )
