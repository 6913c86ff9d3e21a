"""Checks of the entity tables: the rows, their history, and the age of the last census."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from klaviyo_pipeline.catalog import census_name
from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Column
from klaviyo_pipeline.orchestration.checks.check import (
    Check,
    CheckContext,
    CheckOutcome,
    error,
    passed,
    read_as_listed,
    warning,
)
from klaviyo_pipeline.postgres.schema.tables import VALID_FROM, VALID_TO

CENSUS_AGE = timedelta(hours=48)
"""A census runs daily. The check warns after two missed censuses."""

_JSON_KINDS = {"text": "string", "bool": "boolean"}


def entity_checks(listing: Listing) -> tuple[Check, ...]:
    """The checks of one entity's table and history."""
    return (
        Check(
            "columns_match_raw",
            "The id and the text and boolean columns of each row match the object in its `raw`.",
            lambda ctx: columns_match_raw(ctx, listing),
        ),
        Check(
            "history_is_unbroken",
            "Each earlier state of an object ends when the next one begins, and the last state is the table's row.",
            history_is_unbroken,
        ),
    )


def census_checks(listing: Listing) -> tuple[Check, ...]:
    """The check of one entity's census."""
    return (
        Check(
            "census_is_fresh",
            "The last complete census is less than two days old. Only a census detects deletes, objects that were "
            "archived or unarchived, and objects without an `updated` time.",
            lambda ctx: census_is_fresh(ctx, listing),
        ),
    )


def columns_match_raw(ctx: CheckContext, listing: Listing) -> CheckOutcome:
    """Compare columns with `raw`. A column that is NULL because its attribute could not be parsed is not an error."""
    table = ctx.target().table
    differs = [table.c.raw["id"].astext.is_distinct_from(table.c.id)]
    differs += [_differs(table, column) for column in listing.columns if _is_attribute(column)]
    query = sa.select(table.c.id).where(sa.or_(*differs), *read_as_listed(table, listing)).order_by(table.c.id)
    ids = ctx.connection.execute(query).scalars().all()
    if not ids:
        return passed("columns match raw in every row")
    return error(
        f"columns differ from raw in {counted(len(ids), 'row')} of {ctx.asset}: {some(ids)}. Run "
        f"`klaviyo-pipeline sync {census_name(listing)}`. If the columns still differ, something other than the "
        "pipeline writes to the table.",
        rows=len(ids),
    )


def history_is_unbroken(ctx: CheckContext) -> CheckOutcome:
    history = ctx.view(f"{ctx.asset}_history", ["id", VALID_FROM, VALID_TO])
    following = sa.func.lead(history.c.valid_from).over(partition_by=history.c.id, order_by=history.c.valid_from)
    states = sa.select(history.c.id, history.c.valid_to, following.label("following")).subquery()
    query = sa.select(states.c.id).where(states.c.valid_to.is_distinct_from(states.c.following)).distinct()
    ids = sorted(ctx.connection.execute(query).scalars())
    if not ids:
        return passed("the states of every object follow each other without a gap")
    return error(
        f"the history of {counted(len(ids), 'object')} of {ctx.asset} has gaps, overlaps or no current state: "
        f"{some(ids)}. The pipeline only adds rows to {ctx.asset}_superseded: find out what else writes to that table "
        f"or to {ctx.asset}. Earlier states can be restored only from a dump.",
        objects=len(ids),
    )


def census_is_fresh(ctx: CheckContext, listing: Listing) -> CheckOutcome:
    runs = ctx.view("census_runs", ["entity", "started_at", "status", "error"])
    query = (
        sa.select(runs.c.started_at, runs.c.status, runs.c.error)
        .where(runs.c.entity == listing.entity)
        .order_by(runs.c.started_at.desc())
    )
    every = ctx.rows(query)
    complete = next((run.started_at for run in every if run.status == "complete"), None)
    failed = ""
    if every and every[0].status == "failed":
        failed = f"; the last attempt failed: {str(every[0].error).rstrip('.')}"
    remedy = f"Run `klaviyo-pipeline sync {ctx.asset}`."
    if complete is None:
        return warning(f"no census of {listing.entity} is complete yet{failed}. {remedy}")
    age = ctx.now - complete
    if age > CENSUS_AGE or failed:
        hours = age.total_seconds() / 3600
        return warning(f"the last complete census of {listing.entity} is {hours:.0f} h old{failed}. {remedy}")
    return passed(f"the last complete census started at {complete:%Y-%m-%d %H:%M} UTC")


def _is_attribute(column: Column) -> bool:
    return not column.path.startswith("@") and column.path != "id" and column.kind in _JSON_KINDS


def _differs(table: sa.Table, column: Column) -> sa.ColumnElement[bool]:
    value = table.c.raw[("attributes", *column.path.split("."))]
    readable = sa.case((sa.func.jsonb_typeof(value) == _JSON_KINDS[column.kind], value))
    return readable.is_distinct_from(sa.func.to_jsonb(table.c[column.name]))
