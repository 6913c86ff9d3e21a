"""Schema drift: Klaviyo returns attributes or statistics that are not declared, or omits declared ones.

Drift loses no data: `raw` keeps every attribute of every object, and `other_statistics` every undeclared statistic.
These checks report what you may want to declare.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.config.wording import NAMED, counted, some
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import SPECIAL_PATHS
from klaviyo_pipeline.klaviyo.report_types import OTHER_STATISTICS, Report
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    error,
    passed,
    read_as_listed,
    shortened,
    warning,
)
from klaviyo_pipeline.postgres.unnested import unnested

KEPT_IN_RAW = {
    "campaigns": ("audiences", "send_options", "send_strategy", "tracking_options"),
    "templates": ("amp", "html", "text"),
}
"""Attributes that Klaviyo documents and that have no column. Those of campaigns are from revision 2026-07-15."""


def drift_checks(listing: Listing) -> tuple[Check, ...]:
    """The checks of one entity's attributes."""
    known = Check(
        "attributes_are_known",
        "Klaviyo returns no undeclared attribute. A new attribute is kept in `raw`.",
        lambda ctx: attributes_are_known(ctx, listing),
    )
    if not listing.shape.complete:
        return (known,)
    return (
        known,
        Check(
            "attributes_are_present",
            "Each object has every attribute that a column is read from. The column of a missing attribute is NULL.",
            lambda ctx: attributes_are_present(ctx, listing),
        ),
    )


def report_drift_checks(report: Report) -> tuple[Check, ...]:
    """The check of one report's statistics."""
    return (
        Check(
            "statistics_are_known",
            f"Klaviyo returns no undeclared statistic. A new statistic is kept in `{OTHER_STATISTICS}`.",
            lambda ctx: statistics_are_known(ctx, report),
        ),
    )


def expected_attributes(listing: Listing) -> tuple[str, ...]:
    """The names of the attributes that columns are read from."""
    return tuple(
        dict.fromkeys(column.path.partition(".")[0] for column in listing.columns if column.path not in SPECIAL_PATHS)
    )


def attributes_are_known(ctx: CheckContext, listing: Listing) -> CheckOutcome:
    table = ctx.target().table
    known = (*expected_attributes(listing), *KEPT_IN_RAW.get(listing.entity, ()))
    seen = sa.func.jsonb_object_keys(table.c.raw["attributes"]).table_valued("name").render_derived(name="seen")
    query = (
        sa.select(seen.c.name, sa.func.count().label("objects"), sa.func.min(table.c.id).label("example"))
        .select_from(table.join(seen, sa.true()))
        .where(table.c.deleted_at.is_(None), *read_as_listed(table, listing), seen.c.name.not_in(known))
        .group_by(seen.c.name)
        .order_by(seen.c.name)
    )
    unknown = ctx.rows(query)
    if not unknown:
        return passed("every attribute is declared")
    sample = some(
        f"{shortened(row.name)} (in {counted(row.objects, 'object')}, such as {row.example})" for row in unknown
    )
    return warning(
        f"Klaviyo returns {counted(len(unknown), 'undeclared attribute')} of {ctx.asset}: {sample}. The values are "
        "kept in raw->'attributes'. Declare a column if you need one.",
        unknown={row.name: row.objects for row in unknown},
    )


def statistics_are_known(ctx: CheckContext, report: Report) -> CheckOutcome:
    table = ctx.target().table
    seen = sa.func.jsonb_object_keys(table.c[OTHER_STATISTICS]).table_valued("name").render_derived(name="seen")
    query = (
        sa.select(
            seen.c.name,
            sa.func.count().label("rows"),
            sa.func.min(table.c[report.keys[0]]).label("example"),
            sa.func.max(ctx.period()).label("last"),
        )
        .select_from(table.join(seen, sa.true()))
        .group_by(seen.c.name)
        .order_by(seen.c.name)
    )
    unknown = ctx.rows(query)
    if not unknown:
        return passed("every statistic is declared")
    sample = some(
        f"{shortened(row.name)} (in {counted(row.rows, 'row')}, such as {row.example}, last on {row.last})"
        for row in unknown
    )
    return warning(
        f"Klaviyo returns {counted(len(unknown), 'undeclared statistic')} of {ctx.asset}: {sample}. The values are "
        f"kept in {OTHER_STATISTICS}. Declare a column if you need one.",
        unknown={row.name: row.rows for row in unknown},
    )


def attributes_are_present(ctx: CheckContext, listing: Listing) -> CheckOutcome:
    table = ctx.target().table
    expected = unnested("expected", name=(sa.Text(), list(expected_attributes(listing))))
    there = sa.func.coalesce(table.c.raw["attributes"].has_key(expected.c.name), sa.false())
    ids = sa.func.array_agg(pg.aggregate_order_by(table.c.id, table.c.id))
    query = (
        sa.select(expected.c.name, sa.func.count().label("objects"), ids.label("ids"))
        .select_from(table.join(expected, sa.true()))
        .where(table.c.deleted_at.is_(None), *read_as_listed(table, listing), sa.not_(there))
        .group_by(expected.c.name)
        .order_by(expected.c.name)
    )
    missing = ctx.rows(query)
    if not missing:
        return passed("every object has every attribute that a column is read from")
    sample = "; ".join(f"{row.name}, missing in {some(row.ids[:NAMED], row.objects)}" for row in missing)
    return error(
        f"objects of {ctx.asset} lack {counted(len(missing), 'attribute')} that columns are read from, so the columns "
        f"are NULL: {sample}. Read Klaviyo's changelog for KLAVIYO_REVISION to see whether an attribute was renamed.",
        missing={row.name: row.objects for row in missing},
    )
