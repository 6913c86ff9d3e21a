"""A check that asks Klaviyo: whether every object that it lists now is in the table, with its time.

Costs what a census costs: a page of requests for every page of the full listing, and a few lookups by id where the
two differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.listings import NOW_MARGIN, Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.revisions import listing_at
from klaviyo_pipeline.orchestration.checks.check import CheckContext, CheckOutcome, counted, error, passed, some
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session

NAME = "listed_objects_exist"
DESCRIPTION = (
    "Every object that a full listing shows is in the table with the same `updated`, as far as it is synced: changes "
    "since the last census and the last window are left out. Asks Klaviyo for the whole listing."
)


CHECKED_BY_ID = 20
"""So many objects that differ are asked for once more: they may have changed while the listing was read."""

Times = Mapping[str, datetime | None]


@dataclass(frozen=True)
class StoredObjects:
    """How far a table is known to go: all times before `census`, and those in [`first`, `through`).

    What changed within the last minute of either is left out: listings may be that late.
    """

    census: datetime | None
    first: datetime | None
    through: datetime | None

    def holds(self, updated: datetime | None) -> bool:
        """Whether an object with this `updated` has to be in the table. A time that is null tells nothing."""
        if updated is None:
            return False
        if self.census is not None and updated < self.census - NOW_MARGIN:
            return True
        if self.first is None or self.through is None:
            return False
        return self.first <= updated < self.through - NOW_MARGIN


def listed_objects_exist(ctx: CheckContext, session: Session, listing: Listing) -> CheckOutcome:
    """Compare ids and times with a listing that is read now."""
    listing = listing_at(session.account.revision, listing)
    # In this order: what changes in between is then shown with a time that is not required to be held.
    in_table = _stored(ctx, listing)
    table = ctx.target().table
    query = sa.select(table.c.id, table.c.updated_at, table.c.deleted_at)
    stored = {row.id: row for row in ctx.rows(query)}
    ctx.release()
    living: Times = {id: row.updated_at for id, row in stored.items() if row.deleted_at is None}
    seen = _listed(session, listing)
    required = {id: updated for id, updated in seen.items() if in_table.holds(updated)}
    differing = {id: updated for id, updated in required.items() if id not in living or living[id] != updated}
    set_back = {id for id, updated in differing.items() if _is_set_back(living.get(id), updated)}
    suspects = {id: updated for id, updated in differing.items() if id not in set_back}
    if len(suspects) <= CHECKED_BY_ID:
        suspects = _still_differing(session, listing, suspects, in_table, living)
    missing = [id for id in suspects if id not in living]
    other = [id for id in suspects if id in living]
    gone = [id for id in living if id not in seen]
    if missing or other:
        return error(
            f"of {counted(len(seen), 'listed object')}, {len(missing):,} are not in {ctx.asset} ({some(missing)}) "
            f"and {len(other):,} have another time there ({some(other)}). Run "
            f"`klaviyo-pipeline sync {ctx.asset}_census`.",
            listed=len(seen),
            missing=len(missing),
            differing=len(other),
        )
    return passed(
        f"all {len(required):,} of the {counted(len(seen), 'listed object')} that are synced are held; "
        f"{len(gone):,} rows are listed no more, and {len(set_back):,} with an earlier time than before: the next "
        "census brings both",
        listed=len(seen),
        listed_no_more=len(gone),
        set_back=len(set_back),
    )


def _is_set_back(in_table: datetime | None, updated: datetime | None) -> bool:
    """Whether Klaviyo shows an earlier time than it once did: no time tells when it changed."""
    return in_table is not None and updated is not None and updated < in_table


def _still_differing(
    session: Session, listing: Listing, suspects: Times, in_table: StoredObjects, living: Times
) -> dict[str, datetime | None]:
    """Those of the suspects that Klaviyo, asked by id, still shows as the table should have them and does not."""
    found: dict[str, datetime | None] = {}
    for id in suspects:
        record = session.client.get(listing, id).record
        if record is None:
            continue
        updated = _updated(record)
        as_stored = id in living and living[id] == updated
        if in_table.holds(updated) and not as_stored and not _is_set_back(living.get(id), updated):
            found[id] = updated
    return found


def _listed(session: Session, listing: Listing) -> dict[str, datetime | None]:
    """`updated` of every object, by id."""
    found: dict[str, datetime | None] = {}
    plain = replace(listing, include=(), children=(), messages=None)
    for query in plain.queries(None, None, session.now()):
        for page in session.client.pages(plain, query):
            found |= {record.id: _updated(record) for record in page.records}
    return found


def _updated(record: Record) -> datetime | None:
    updated = record.values["updated_at"]
    assert updated is None or isinstance(updated, datetime)
    return updated


def _stored(ctx: CheckContext, listing: Listing) -> StoredObjects:
    runs = ctx.view("census_runs", ["entity", "started_at", "status"])
    complete = sa.and_(runs.c.entity == listing.entity, runs.c.status == "complete")
    census = ctx.connection.execute(sa.select(sa.func.max(runs.c.started_at)).where(complete)).scalar_one()
    status = ctx.view("sync_status", ["entity", "synced_through"])
    through = sa.select(status.c.synced_through).where(status.c.entity == listing.entity)
    windows = ctx.view("sync_windows", ["entity", "status", "window_start"])
    synced = sa.and_(windows.c.entity == listing.entity, windows.c.status == "synced")
    first = ctx.connection.execute(sa.select(sa.func.min(windows.c.window_start)).where(synced)).scalar_one()
    return StoredObjects(census, first, ctx.connection.execute(through).scalar_one_or_none())
