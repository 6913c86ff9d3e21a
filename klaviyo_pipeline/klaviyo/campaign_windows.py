"""Reads the campaigns of a window at revision 2026-10-15: campaigns that changed in it, or have a message that did.

Klaviyo does not document whether a change of a message moves the campaign's `updated_at`. So three things are read for
a window: the messages that changed in it, with their variations; the campaigns that changed in it; and, by id, the
campaigns that did not change in it, but have one of these messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from klaviyo_pipeline.klaviyo.calls import Answer
from klaviyo_pipeline.klaviyo.children import Inclusion, inclusion_of, related_ids
from klaviyo_pipeline.klaviyo.errors import BadRequest
from klaviyo_pipeline.klaviyo.filters import Condition
from klaviyo_pipeline.klaviyo.listing_pages import Completion, ListingReader, Page
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.variations import MessageTree, VariationReader, id_batches, message_trees

MICROSECOND = timedelta(microseconds=1)


@dataclass
class CampaignWindowReader:
    """Reads the campaigns of one range of windows. `get` looks up a campaign by id: a page with one record or none.

    `_trees` are the messages that were read, by id. `_moved` maps the id of a campaign to the latest time in the range
    at which one of its messages changed. `_done` maps the id of a campaign to the `updated_at` and `archived` of its
    record, once the record was returned.
    """

    listing: Listing
    messages: Listing
    variations: VariationReader
    get: Callable[[str], Page]
    _trees: dict[str, MessageTree] = field(default_factory=dict)
    _moved: dict[str, datetime] = field(default_factory=dict)
    _done: dict[str, tuple[object, object]] = field(default_factory=dict)

    def read(self, start: datetime, end: datetime, now: datetime) -> Iterator[Page]:
        """Returns pages with every campaign that changed in [start, end), or has a message that changed in it.

        If the campaign itself changed at another time, its `moved_at` is the latest time in [start, end) at which one
        of its messages changed.
        """
        first, *others = self.listing.variant_queries(start, end, now)
        reader = self._reader(self.listing, self._complete)
        pool = ThreadPoolExecutor(1, "klaviyo-campaigns")
        try:
            # Current campaigns are read at the same time as messages: the two listings have separate rate limits.
            # Archived campaigns are read after the current ones. A campaign that is archived in between is then in at
            # least one of the two listings.
            reader.read_ahead(first, pool)
            yield from self._read_messages(start, end, now)
            for query in (first, *others):
                for page in reader.read(query):
                    yield self._placed(page, start, end)
        finally:
            # After an error, the pages that the thread still reads are not awaited: the run's `stop` ends the thread.
            pool.shutdown(wait=False)
        yield from self._read_unlisted(start, end, now)

    def _read_messages(self, start: datetime, end: datetime, now: datetime) -> Iterator[Page]:
        """Reads the messages of the range into `_trees` and `_moved`.

        The pages have no records. They only report the requests and the times of observation.
        """
        refused = 0
        while True:
            include = self.variations.include
            listing = replace(self.messages, include=include)
            try:
                for query in listing.queries(start, end, now):
                    for page in self._reader(listing, self._note_messages).read(query):
                        for record in page.records:
                            self._note_moved(record, start, end)
                        yield replace(page, records=[], requests=page.requests + refused)
                        refused = 0
                return
            except BadRequest as error:
                if not self.variations.is_refusal(error, include):
                    raise
                refused += error.attempts

    def _note_messages(self, data: Sequence[object], answer: Answer) -> Inclusion:
        self._trees |= message_trees(answer)
        return inclusion_of(answer)

    def _note_moved(self, message: Record, start: datetime, end: datetime) -> None:
        # A message without a readable time may have changed in this range, so it counts as if it changed at the end.
        moment = message.updated_at or end - MICROSECOND
        resource = self._trees[message.id].message if message.id in self._trees else None
        if resource is None or not start <= moment < end:
            return
        for campaign in related_ids(resource, "campaign") or ():
            self._moved[campaign] = max(moment, self._moved.get(campaign, moment))

    def _read_unlisted(self, start: datetime, end: datetime, now: datetime) -> Iterator[Page]:
        """The campaigns in `_moved` that the listings by time did not return."""
        unlisted = sorted(self._moved.keys() - self._done)
        for batch in id_batches(unlisted):
            for query in self.listing.variant_queries(None, None, now):
                if missing := [id for id in batch if id not in self._done]:
                    wanted = query.with_condition(Condition("any", "id", tuple(missing)))
                    for page in self._reader(self.listing, self._complete).read(wanted):
                        yield self._placed(page, start, end)
        for id in unlisted:
            if id not in self._done:
                yield self._placed(self.get(id), start, end)

    def _placed(self, page: Page, start: datetime, end: datetime) -> Page:
        """The page with `moved_at` set in the records of campaigns that did not change in [start, end) themselves.

        The page leaves out records that an earlier page returned in the same state, and campaigns that neither changed
        in [start, end) nor have a message that did.
        """
        records = []
        for record in page.records:
            state = record.updated_at, record.values["archived"]
            if self._done.get(record.id) == state:
                continue
            if record.updated_at is None or not start <= record.updated_at < end:
                moved_at = self._moved.get(record.id)
                if moved_at is None and record.updated_at is not None:
                    continue
                record = replace(record, moved_at=moved_at)
            self._done[record.id] = state
            records.append(record)
        return replace(page, records=records)

    def _complete(self, data: Sequence[object], answer: Answer) -> Inclusion:
        return self.variations.complete(data, answer, self._trees)

    def _reader(self, listing: Listing, complete: Completion) -> ListingReader:
        url = self.variations.origin.url(listing.path)
        return ListingReader(self.variations.sender, url, listing, complete)
