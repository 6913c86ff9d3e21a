"""The census: a full listing of every object of an entity, including archived ones.

It finds what no window contains: deletes, tags, objects that were archived or unarchived, objects older than the first
window, and objects without `updated`. An object that is archived while the census reads may be in none of the listings.
Therefore a row that is missing from the listings is marked deleted only if a lookup by id returns 404.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from typing import Any

import dagster as dg

from klaviyo_pipeline.catalog import LISTED_IN_FULL, census_name
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.orchestration.assets.account_asset import account_asset
from klaviyo_pipeline.orchestration.assets.child_frames import child_tables
from klaviyo_pipeline.orchestration.assets.entity_assets import ParseWarnings, RowBuffer
from klaviyo_pipeline.orchestration.assets.frames import filled_columns
from klaviyo_pipeline.orchestration.assets.full_listing import FullListing
from klaviyo_pipeline.orchestration.assets.lookup import repository
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.postgres.census_runs import CensusRecord
from klaviyo_pipeline.postgres.engine import in_transaction
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.postgres.write.loads import Batch, Load
from klaviyo_pipeline.postgres.write.repositories import EntityRepository


class ImplausibleShrinkage(RuntimeError):
    """The listings contain far fewer objects than the table. Nothing is marked deleted."""


class CensusConfig(dg.Config):
    """A census fails if more than `shrinkage_share` of the known objects and more than `shrinkage_objects` are missing
    from the listings. With `accept_deletes`, it looks them up instead, and marks those deleted that return 404.
    """

    shrinkage_share: float = 0.5
    shrinkage_objects: int = 20
    accept_deletes: bool = False

    def is_implausible(self, missing: int, known: int) -> bool:
        """Whether so many objects are missing that the listings probably ended early."""
        return not self.accept_deletes and missing > self.shrinkage_objects and missing > known * self.shrinkage_share


@dataclass
class Findings:
    """The results of a census so far."""

    began: datetime | None = None
    seen: set[str] = field(default_factory=set)
    looked_up: set[str] = field(default_factory=set)
    requests: int = 0
    deleted: int = 0


@cache
def _config_schema() -> Any:
    """The config schema, built once for all censuses. From an annotation, Dagster would build it for each census."""
    return CensusConfig.to_config_schema()


def census_asset(account: Account, listing: Listing) -> dg.AssetsDefinition:
    """The census of one entity, or of the tags, in one account."""
    listing = listing_at(account.revision, listing)
    record = _record(account, listing)

    @account_asset(
        account,
        census_name(listing),
        table=listing.entity,
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        description=_description(account, listing),
        config_schema=_config_schema(),
    )
    def census(context: dg.AssetExecutionContext, access: AccountAccess) -> Load:
        config, findings = CensusConfig(**context.op_execution_context.op_config), Findings()

        def batches() -> Iterator[Batch]:
            with access.klaviyo.session(account, access.warehouse, context.run.run_id) as session:
                findings.began = session.now()
                yield from _list_all(context, session, listing, findings)
                yield from _look_up_missing(context, session, listing, findings, config)
                _look_up_earlier_messages(session, listing, findings)
                context.add_asset_metadata(session.count.metadata())

        precedence = listing.precedence
        filled = filled_columns(listing.columns)
        return _recorded_load(context, access.warehouse, record, findings, batches(), filled, precedence)

    return census


def _record(account: Account, listing: Listing) -> CensusRecord:
    return CensusRecord(account.slug, listing.entity, listing.shape.revision)


def _recorded_load(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    record: CensusRecord,
    findings: Findings,
    batches: Iterator[Batch],
    filled: Sequence[str],
    precedence: Mapping[str, Sequence[str]],
) -> Load:
    """The load of these batches. When it ends, it records the `findings` of the census, or the error if it fails."""

    def on_written(row_counts: RowCounts, rows: int) -> None:
        assert findings.began is not None
        complete = partial(
            record.complete,
            began=findings.began,
            # An object may be in several listings. It counts once.
            listed=len(findings.seen | findings.looked_up),
            row_counts=row_counts,
            deleted=findings.deleted,
            requests=findings.requests,
            run_id=context.run.run_id,
        )
        with warehouse.engine(record.schema) as engine:
            in_transaction(engine, complete)
        context.add_asset_metadata(
            {
                "objects_listed": len(findings.seen),
                "healed_inserted": row_counts.inserted,
                "healed_updated": row_counts.updated,
                "healed_deleted": findings.deleted,
            }
        )

    def on_failed(reason: str) -> None:
        if findings.began is None:
            return
        failed = partial(record.failed, began=findings.began, run_id=context.run.run_id, error=reason)
        with warehouse.engine(record.schema) as engine:
            in_transaction(engine, failed)

    return Load(batches=batches, filled=filled, precedence=precedence, on_written=on_written, on_failed=on_failed)


def _description(account: Account, listing: Listing) -> str:
    if listing.entity in LISTED_IN_FULL:
        return (
            f"The latest state of every {listing.resource_type.replace('-', ' ')}, one row each. Klaviyo can only list "
            f"all of them, not those of a window. Earlier states are in `{account.slug}.{listing.entity}_history`."
        )
    if not listing.has_windows:
        return (
            f"Every {listing.resource_type}, one row each. The censuses of flows, campaigns and segments store the "
            f"{listing.resource_type}s of each object in `{account.slug}.object_tags`."
        )
    return (
        f"A full listing of every {listing.resource_type}, including archived ones. Adds objects that the windows "
        "missed, and marks objects that no longer exist in Klaviyo as deleted."
    )


def _list_all(
    context: dg.AssetExecutionContext, session: Session, listing: Listing, findings: Findings
) -> Iterator[Batch]:
    buffer, parse_warnings = RowBuffer(listing), ParseWarnings(context)
    full = FullListing(session, listing)
    for page in full.pages():
        findings.requests += page.requests
        for record in page.records:
            parse_warnings.add(record.problems)
            findings.seen.add(record.id)
            buffer.add(record, page.observed_at)
        if buffer.is_full:
            yield buffer.batch(windowed=False)
    parse_warnings.sum_up()
    context.add_asset_metadata(full.metadata())
    if full.why_not_tags:
        context.log.warning(
            f"{full.why_not_tags}: the tags of the {listing.entity} were not requested and are left unchanged"
        )
    yield buffer.batch(windowed=False)


def _look_up_missing(
    context: dg.AssetExecutionContext,
    session: Session,
    listing: Listing,
    findings: Findings,
    config: CensusConfig,
) -> Iterator[Batch]:
    """Look up by id every known object that is missing from the listings. Store it, or mark it deleted."""
    assert findings.began is not None
    record = _record(session.account, listing)
    with session.engine.connect() as connection:
        missing, known = record.unseen(connection, findings.seen, findings.began)
    if config.is_implausible(len(missing), known):
        raise ImplausibleShrinkage(
            f"the listings lack {len(missing):,} of {known:,} known {listing.entity}, so nothing was marked deleted. "
            f"If they were really deleted, run `klaviyo-pipeline sync {census_name(listing)} --accept-deletes`."
        )
    store = repository(session.engine, session.account.slug, listing)
    buffer = RowBuffer(listing)
    for id in missing:
        found = session.client.get(listing, id)
        findings.requests += found.requests
        if found.record is not None:
            findings.looked_up.add(id)
            buffer.add(found.record, found.observed_at)
        else:
            findings.deleted += store.delete([id], found.observed_at)
            context.log.info(f"{listing.resource_type} {id} no longer exists in Klaviyo; marked deleted")
    yield buffer.batch(windowed=False)


def _look_up_earlier_messages(session: Session, listing: Listing, findings: Findings) -> None:
    """Look up by id every campaign message that was last read at an earlier revision. Mark it deleted on a 404."""
    if listing.messages is None or listing.shape.revision is None or findings.began is None:
        return
    record = _record(session.account, listing)
    with session.engine.connect() as connection:
        ids = record.earlier_messages(connection, findings.began)
    children = [table for table in child_tables(listing) if table.parent == listing.messages.entity]
    store = EntityRepository(session.engine, session.account.slug, listing.messages.entity, {}, children)
    for id in ids:
        found = session.client.get(listing.messages, id)
        findings.requests += found.requests
        if found.record is None:
            store.delete([id], found.observed_at)
