"""An API check: whether every object that Klaviyo lists now is in the table, with its `updated` time.

It costs about as much as a census: one request for each page of the full listing, and up to 20 lookups by id if objects
differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from klaviyo_pipeline.config.wording import counted, some
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import NOW_MARGIN, Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.orchestration.checks.check import CheckContext, CheckOutcome, error, passed
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session

NAME = "listed_objects_exist"
DESCRIPTION = (
    "Every object of a full listing is in the table with the same `updated` time. Changes after the last census and "
    "the last synced window are ignored. Calls Klaviyo's API: one request for each page of the listing."
)


CHECKED_BY_ID = 20
"""If at most this many objects differ, they are looked up by id: they may have changed while the listing was read."""

Times = Mapping[str, datetime | None]


@dataclass(frozen=True)
class CoveredTimes:
    """The `updated` times that the table covers: all before `census`, and those in [`first`, `through`).

    The last minute before `census` and before `through` is left out, because a listing may lag that much.
    """

    census: datetime | None
    first: datetime | None
    through: datetime | None

    def cover(self, updated: datetime | None) -> bool:
        """Whether an object with this `updated` has to be in the table. An object without `updated` does not."""
        if updated is None:
            return False
        if self.census is not None and updated < self.census - NOW_MARGIN:
            return True
        if self.first is None or self.through is None:
            return False
        return self.first <= updated < self.through - NOW_MARGIN


def listed_objects_exist(ctx: CheckContext, session: Session, listing: Listing) -> CheckOutcome:
    """Compare the ids and `updated` times in the table with a full listing that is read now."""
    listing = listing_at(session.account.revision, listing)
    # The table is read before the listing. The `updated` time of an object that changes in between is not covered.
    covered = _covered(ctx, listing)
    table = ctx.target().table
    query = sa.select(table.c.id, table.c.updated_at, table.c.deleted_at)
    stored = {row.id: row for row in ctx.rows(query)}
    ctx.release()
    living: Times = {id: row.updated_at for id, row in stored.items() if row.deleted_at is None}
    listed = _listed(session, listing)
    required = {id: updated for id, updated in listed.items() if covered.cover(updated)}
    differing = {id: updated for id, updated in required.items() if id not in living or living[id] != updated}
    set_back = {id for id, updated in differing.items() if _is_set_back(living.get(id), updated)}
    suspects = {id: updated for id, updated in differing.items() if id not in set_back}
    if len(suspects) <= CHECKED_BY_ID:
        suspects = _still_differing(session, listing, suspects, covered, living)
    missing = [id for id in suspects if id not in living]
    other = [id for id in suspects if id in living]
    gone = [id for id in living if id not in listed]
    if missing or other:
        differences = [f"{len(missing):,} missing in the table ({some(missing)})"] if missing else []
        differences += [f"{len(other):,} with another `updated` time ({some(other)})"] if other else []
        return error(
            f"{ctx.asset} differs from Klaviyo's listing of {counted(len(listed), 'object')}: "
            f"{'; '.join(differences)}. Run `klaviyo-pipeline sync {ctx.asset}_census`.",
            listed=len(listed),
            missing=len(missing),
            differing=len(other),
        )
    return passed(
        f"{ctx.asset} contains all {counted(len(required), 'object')} that it has to contain, of {len(listed):,} "
        f"listed. The next census updates {counted(len(gone), 'row')} no longer listed, and "
        f"{counted(len(set_back), 'row')} whose `updated` time has moved back",
        listed=len(listed),
        listed_no_more=len(gone),
        set_back=len(set_back),
    )


def _is_set_back(stored: datetime | None, updated: datetime | None) -> bool:
    """Whether Klaviyo returns an earlier `updated` time than the stored one. The next census updates such an object."""
    return stored is not None and updated is not None and updated < stored


def _still_differing(
    session: Session, listing: Listing, suspects: Times, covered: CoveredTimes, living: Times
) -> dict[str, datetime | None]:
    """The suspects that still differ from the table after a lookup by id, and that the table has to contain."""
    found: dict[str, datetime | None] = {}
    for id in suspects:
        record = session.client.get(listing, id).record
        if record is None:
            continue
        updated = _updated(record)
        as_stored = id in living and living[id] == updated
        if covered.cover(updated) and not as_stored and not _is_set_back(living.get(id), updated):
            found[id] = updated
    return found


def _listed(session: Session, listing: Listing) -> dict[str, datetime | None]:
    """The `updated` time of every listed object, by id."""
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


def _covered(ctx: CheckContext, listing: Listing) -> CoveredTimes:
    runs = ctx.view("census_runs", ["entity", "started_at", "status"])
    complete = sa.and_(runs.c.entity == listing.entity, runs.c.status == "complete")
    census = ctx.connection.execute(sa.select(sa.func.max(runs.c.started_at)).where(complete)).scalar_one()
    status = ctx.view("sync_status", ["entity", "synced_through"])
    through = sa.select(status.c.synced_through).where(status.c.entity == listing.entity)
    windows = ctx.view("sync_windows", ["entity", "status", "window_start"])
    synced = sa.and_(windows.c.entity == listing.entity, windows.c.status == "synced")
    first = ctx.connection.execute(sa.select(sa.func.min(windows.c.window_start)).where(synced)).scalar_one()
    return CoveredTimes(census, first, ctx.connection.execute(through).scalar_one_or_none())
