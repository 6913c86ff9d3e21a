"""The factory of the entity assets, which sync every object whose `updated` time is in a window.

A campaign is also synced if one of its messages was updated in the window. A run over a range of windows reads the
listings in at most a few chunks (see `planning.chunks`), however many windows the range has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.klaviyo.listing_pages import Page
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listing_revisions import listing_at
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.orchestration.assets.account_asset import windowed_asset
from klaviyo_pipeline.orchestration.assets.child_frames import ChildBuffer
from klaviyo_pipeline.orchestration.assets.concurrent_reading import CONCURRENT_LISTINGS, read_concurrently
from klaviyo_pipeline.orchestration.assets.frames import filled_columns, record_frame
from klaviyo_pipeline.orchestration.assets.object_tags import TagBuffer
from klaviyo_pipeline.orchestration.assets.resumed_runs import windows_left
from klaviyo_pipeline.orchestration.resources.account_resources import AccountAccess
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import Session
from klaviyo_pipeline.planning.chunks import Chunk, chunks_of
from klaviyo_pipeline.postgres.write.io_manager import report_partitions
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.windows import Window, entity_windows

BATCH_ROWS = 4_000
"""About this many rows are written in one transaction: several megabytes of JSON, which fit into Postgres's memory
for temporary tables (`temp_buffers`)."""

WARNINGS_IN_LOG = 10


@dataclass
class ParseWarnings:
    """The parse warnings of a run. The first ten are logged; further warnings are only counted.

    If Klaviyo removes an attribute, every object causes a warning, and Dagster stores each log line as an event.
    """

    context: dg.AssetExecutionContext
    total: int = 0

    def add(self, problems: Sequence[str]) -> None:
        for problem in problems:
            self.total += 1
            if self.total <= WARNINGS_IN_LOG:
                self.context.log.warning(problem)

    def sum_up(self) -> None:
        """Add the total to the materialization. If not all warnings were logged, log how many were not."""
        self.context.add_asset_metadata({"parse_warnings": self.total})
        if self.total > WARNINGS_IN_LOG:
            more = counted(self.total - WARNINGS_IN_LOG, "more parse warning")
            self.context.log.warning(f"{more} not logged; the total is in the metadata parse_warnings")


@dataclass
class RowBuffer:
    """The rows of the next batch, with their children and tags."""

    listing: Listing
    rows: list[dict[str, object]] = field(default_factory=list)
    observed: list[datetime] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    children: ChildBuffer = field(init=False)
    tags: TagBuffer = field(init=False)

    def __post_init__(self) -> None:
        self.children = ChildBuffer(self.listing.entity, self.listing.children)
        self.tags = TagBuffer(self.listing.entity)

    def add(self, record: Record, observed_at: datetime, window: int = 0) -> None:
        self.rows.append(record.values)
        self.observed.append(observed_at)
        self.windows.append(window)
        self.children.add(record, observed_at)
        self.tags.add(record, observed_at)

    def batch(self, completes: Sequence[CompletedWindow] = (), *, windowed: bool = True) -> Batch:
        frame = record_frame(self.listing.columns, self.rows, self.observed, self.windows if windowed else None)
        self.rows, self.observed, self.windows = [], [], []
        return Batch(frame, completes, children=[*self.children.take(), *self.tags.take()])

    @property
    def is_full(self) -> bool:
        return len(self.rows) + len(self.children) + len(self.tags) >= BATCH_ROWS


def entity_asset(account: Account, listing: Listing) -> dg.AssetsDefinition:
    """The asset of one entity in one account. Its table has the name of the entity."""
    plan, listing = entity_windows(account), listing_at(account.revision, listing)

    @windowed_asset(
        account,
        listing.entity,
        plan,
        column="updated_at",
        replaced=False,
        kinds={"klaviyo", "postgres"},
        pool=f"{account.slug}_api",
        description=(
            f"The latest state of every {listing.resource_type}, one row each. A window contains the objects whose "
            f"`updated` time{' or that of a message' if listing.messages else ''} is in it. Earlier states are in "
            f"`{account.slug}.{listing.entity}_history`."
        ),
    )
    def entity(context: dg.AssetExecutionContext, access: AccountAccess) -> Load:
        windows = windows_left(context, access, account, listing.entity, plan)

        def batches() -> Iterator[Batch]:
            with access.klaviyo.session(account, access.warehouse, context.run.run_id) as session:
                if not session.zone_is_right:
                    context.log.warning(session.zone_remedy)
                yield from read_windows(context, session, listing, windows)
                context.add_asset_metadata(session.count.metadata())

        return Load(
            batches=batches(),
            windows=windows,
            filled=filled_columns(listing.columns),
            precedence=listing.precedence,
            on_synced=report_partitions(context),
        )

    return entity


def read_windows(
    context: dg.AssetExecutionContext, session: Session, listing: Listing, windows: Sequence[Window]
) -> Iterator[Batch]:
    """Batches of all objects updated in these contiguous windows. The last batch of a chunk completes its windows."""
    chunks = _chunks(session, listing, windows)
    buffer, parse_warnings = RowBuffer(listing), ParseWarnings(context)
    tasks = [(chunk, query) for chunk in chunks for query in chunk.queries]
    done = 0
    context.log.info(
        f"{counted(len(windows), 'window')} from {windows[0].start:%Y-%m-%d %H:%M} to "
        f"{windows[-1].end:%Y-%m-%d %H:%M} UTC, read by {len(tasks)} listing quer{'y' if len(tasks) == 1 else 'ies'}"
    )

    def read(task: tuple[Chunk, ListingQuery]) -> Iterator[Page]:
        return session.client.pages(listing, task[1])

    for item in read_concurrently(tasks, read, workers=CONCURRENT_LISTINGS, stop=session.stop):
        chunk, query = item.task
        if item.page is not None:
            _take(parse_warnings, chunk, query, item.page, buffer)
        else:
            chunk.ended += 1
            if chunk.ended == len(chunk.queries):
                yield buffer.batch(chunk.complete())
                done += len(chunk.windows)
                context.log.info(
                    f"{chunk.windows[0].key} to {chunk.windows[-1].key} synced with "
                    f"{counted(chunk.requests, 'request')}: {done} of {counted(len(windows), 'window')}"
                )
        if buffer.is_full:
            yield buffer.batch()
    parse_warnings.sum_up()


def _chunks(session: Session, listing: Listing, windows: Sequence[Window]) -> list[Chunk]:
    """The chunks of these windows.

    A long listing is split into queries that are sorted by time. With cursors that contain a time but no object id,
    such queries could skip objects. If the first page has such a cursor, the listing is not split.
    """
    now = session.now()
    chunks = list(chunks_of(listing, windows, now))
    splits = [query for chunk in chunks for query in chunk.queries if query.since is not None]
    if not splits:
        return chunks
    first = next(session.client.pages(listing, splits[0]))
    if not first.is_border_exact:
        chunks = list(chunks_of(listing, windows, now, split=False))
    chunks[0].note(first)
    return chunks


def _take(parse_warnings: ParseWarnings, chunk: Chunk, query: ListingQuery, page: Page, buffer: RowBuffer) -> None:
    chunk.note(page)
    for record in page.records:
        index = chunk.index_of(query, record)
        if index is not None:
            parse_warnings.add(record.problems)
            buffer.add(record, page.observed_at, index)
