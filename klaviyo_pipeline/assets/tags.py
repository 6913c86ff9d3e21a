"""The tags: every one of the account, and which flows, campaigns and segments carry it.

The tags of the objects come from full listings of their own: a key that lacks the scope `tags:read` loses this asset
and no other. Neither a tag's change nor its removal moves an object's `updated`, so there are no windows here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg

from klaviyo_pipeline.assets.census import Findings, recorded_load
from klaviyo_pipeline.assets.children import tag_pairs
from klaviyo_pipeline.assets.entities import BATCH_ROWS, LISTINGS_SIDE_BY_SIDE
from klaviyo_pipeline.assets.frames import record_frame
from klaviyo_pipeline.assets.reading import read_side_by_side
from klaviyo_pipeline.klaviyo.client import Page
from klaviyo_pipeline.klaviyo.listings import Chain, Listing
from klaviyo_pipeline.klaviyo.records import ID, STAMP, Column, Record
from klaviyo_pipeline.klaviyo.tags import OBJECT_TAGS, TAG, TAGGED
from klaviyo_pipeline.postgres.censuses import CensusRecord
from klaviyo_pipeline.postgres.children import Children, ChildTable, Said
from klaviyo_pipeline.postgres.loads import Batch, Load
from klaviyo_pipeline.postgres.repositories import EntityRepository
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.resources import KlaviyoResource, Session
from klaviyo_pipeline.settings import Account

TAGS = "tags"

PAIR = (Column("entity", STAMP, "text"), Column("object_id", STAMP, "text"), Column("tag_id", ID, "text"))


def tags_asset(account: Account) -> dg.AssetsDefinition:
    """The tags of one account."""

    @dg.asset(
        name=TAGS,
        key_prefix=account.slug,
        group_name=account.slug,
        io_manager_key="postgres",
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        metadata={"dagster/table_name": f"{account.slug}.{TAGS}"},
        description=(
            f"Every tag, one row each; which flows, campaigns and segments carry it is in `{account.slug}.object_tags`."
        ),
    )
    def tags(context: dg.AssetExecutionContext, klaviyo: KlaviyoResource, warehouse: Warehouse) -> Load:
        findings = Findings()

        def batches() -> Iterator[Batch]:
            with klaviyo.session(account, warehouse) as session:
                findings.began = session.now()
                yield from _Reading(context, session, findings).batches()
                context.add_asset_metadata(session.count.metadata())

        return recorded_load(context, warehouse, CensusRecord(account.slug, TAGS), findings, batches())

    return tags


@dataclass
class _Pending:
    """Tags, and objects with their tags, on their way into the next batch."""

    tags: list[tuple[Record, datetime]] = field(default_factory=list)
    pairs: dict[str, list[tuple[dict[str, object], datetime]]] = field(default_factory=lambda: {e: [] for e in TAGGED})
    said: dict[str, dict[str, Said]] = field(default_factory=lambda: {entity: {} for entity in TAGGED})

    def add(self, entity: str, object_id: str, tag_ids: tuple[str, ...], observed_at: datetime) -> None:
        before = self.said[entity].get(object_id)
        if before is None or before.observed_at <= observed_at:
            self.said[entity][object_id] = Said(observed_at, tag_ids)
        for tag_id in tag_ids:
            pair: dict[str, object] = {"entity": entity, "object_id": object_id, "tag_id": tag_id}
            self.pairs[entity].append((pair, observed_at))

    def batch(self) -> Batch:
        frame = record_frame(TAG.columns, [tag.values for tag, _ in self.tags], [at for _, at in self.tags])
        children = [
            Children(
                tag_pairs(entity),
                record_frame(PAIR, [pair for pair, _ in pairs], [at for _, at in pairs]),
                self.said[entity],
            )
            for entity, pairs in self.pairs.items()
            if self.said[entity]
        ]
        return Batch(frame, children=children)

    @property
    def is_full(self) -> bool:
        return sum(map(len, self.said.values())) >= BATCH_ROWS


@dataclass(frozen=True)
class _Reading:
    """The reading of an account's tags; `findings.seen` are the tags that were shown."""

    context: dg.AssetExecutionContext
    session: Session
    findings: Findings

    def batches(self) -> Iterator[Batch]:
        listed_at = self.session.now()
        pending = _Pending()
        for page in self.session.client.tag_pages():
            self.findings.requests += page.requests
            self._take_tags(pending, page.records, page.observed_at)
        yield pending.batch()
        yield from self._objects()
        self._settle(listed_at)

    def _objects(self) -> Iterator[Batch]:
        tasks = [(one, chain) for one in TAGGED.values() for chain in one.chains(None, None, self.session.now())]

        def read(task: tuple[Listing, Chain]) -> Iterator[Page]:
            return self.session.client.pages(*task)

        pending, untold = _Pending(), 0
        for item in read_side_by_side(tasks, read, workers=LISTINGS_SIDE_BY_SIDE, stop=self.session.stop):
            if item.page is None:
                continue
            self.findings.requests += item.page.requests
            for record in item.page.records:
                untold += not self._take_object(pending, item.task[0].entity, record, item.page.observed_at)
            if pending.is_full:
                yield pending.batch()
                pending = _Pending()
        if untold:
            self.context.log.warning(f"Klaviyo did not tell the tags of {untold} objects; they stay as they were")
        yield pending.batch()

    def _take_object(self, pending: _Pending, entity: str, record: Record, observed_at: datetime) -> bool:
        shown = record.children.get(OBJECT_TAGS.table)
        if shown is None:
            return False
        # A tag that is younger than the listing of the tags comes along with its first object.
        self._take_tags(pending, [tag for tag in shown.records if tag.id not in self.findings.seen], observed_at)
        known = tuple(tag for tag in shown.ids if tag in self.findings.seen)
        pending.add(entity, record.id, known, observed_at)
        return True

    def _take_tags(self, pending: _Pending, records: list[Record], observed_at: datetime) -> None:
        for record in records:
            for problem in record.problems:
                self.context.log.warning(problem)
            self.findings.seen.add(record.id)
            pending.tags.append((record, observed_at))

    def _settle(self, listed_at: datetime) -> None:
        """Mark deleted what neither the listing nor any object showed."""
        session, findings = self.session, self.findings
        pairs = ChildTable("object_tags", TAGS, "tag_id", "object_id")
        with session.engine.connect() as connection:
            missing, _ = CensusRecord(session.account.slug, TAGS).unseen(connection, findings.seen, listed_at)
        store = EntityRepository(session.engine, session.account.slug, TAGS, {}, [pairs])
        findings.deleted = store.delete(missing, listed_at)
