"""The client of Klaviyo's API. It returns the data of an account as records, pages and rows."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx

from klaviyo_pipeline.config.api_revisions import DEFAULT_REVISION
from klaviyo_pipeline.klaviyo import aggregates, rates
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount, read_account
from klaviyo_pipeline.klaviyo.calls import Call, RequestRecord, with_request_info
from klaviyo_pipeline.klaviyo.campaign_windows import CampaignWindowReader
from klaviyo_pipeline.klaviyo.errors import MalformedAnswer, NotFound, PaginationLoop
from klaviyo_pipeline.klaviyo.listing_pages import Completion, ListingReader, Page, as_included
from klaviyo_pipeline.klaviyo.listing_query import ListingQuery
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.metrics import Metric, read_metric, related_metric_id
from klaviyo_pipeline.klaviyo.origin import Origin
from klaviyo_pipeline.klaviyo.pacing import Pacer
from klaviyo_pipeline.klaviyo.paging import data_list, iter_pages
from klaviyo_pipeline.klaviyo.records import Record
from klaviyo_pipeline.klaviyo.report_rows import read_rows
from klaviyo_pipeline.klaviyo.report_types import Report
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.klaviyo.sender import Sender
from klaviyo_pipeline.klaviyo.variations import VariationReader

BASE_URL = "https://a.klaviyo.com"
RETRY = RetryPolicy()

_METRIC = (("include", "metric"),)


@dataclass(frozen=True)
class Lookup:
    """The result of a lookup by id: `record` is None if the object does not exist in Klaviyo.

    `observed_at` is the time of the observation (UTC). `requests` counts the requests that the lookup sent, including
    retries.
    """

    record: Record | None
    observed_at: datetime
    requests: int


@dataclass(frozen=True)
class ReportPage:
    """One page of a report. `rows`, `unknown`, `missing` and `days` are those of `ReportRows`.

    `observed_at` is the time of the observation (UTC). `number` is the number of the page, counted from 1.
    """

    rows: list[dict[str, object]]
    observed_at: datetime
    number: int
    unknown: Counter[str]
    missing: Counter[str]
    days: frozenset[date]


@dataclass(frozen=True)
class AggregatePage:
    """One page of metric aggregates, observed at `observed_at` (UTC). For `rows` and `days`, see `AggregateRows`."""

    rows: list[dict[str, Any]]
    observed_at: datetime
    days: frozenset[date]


class KlaviyoClient:
    """A client of one account. It is safe to use from many threads. Close it, or use it as a context manager.

    `base_url` does not contain `/api`. Plain http raises `InsecureUrl`, except for loopback addresses. Every attempt
    reserves a slot from `pacer`. Once `stop` is set, every wait raises `Stopped`. `on_request` is called after every
    attempt, in the thread that sent it. Methods raise the errors of the module `errors`; no error contains the key.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str = BASE_URL,
        revision: str = DEFAULT_REVISION,
        pacer: Pacer,
        stop: threading.Event | None = None,
        on_request: Callable[[RequestRecord], None] | None = None,
        transport: httpx.BaseTransport | None = None,
        retry: RetryPolicy = RETRY,
    ) -> None:
        self._origin = Origin(base_url)
        self.pacer = pacer
        self._sender = Sender(
            api_key=api_key,
            origin=self._origin,
            revision=revision,
            pacer=pacer,
            retry=retry,
            stop=stop,
            on_request=on_request,
            transport=transport,
        )
        self._variations = VariationReader(self._sender, self._origin)

    def __repr__(self) -> str:
        return f"KlaviyoClient({self._origin.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._sender.close()

    @property
    def retirement_date(self) -> str | None:
        """The date when Klaviyo stops serving this revision, as its responses state it; None until one of them does."""
        return self._sender.retirement_date

    def account(self) -> KlaviyoAccount:
        """The account that the API key belongs to."""
        call = Call(rates.GET_ACCOUNTS, self._origin.url("/api/accounts"))
        answer = self._sender.ask(call)
        with with_request_info(answer, call.endpoint):
            return read_account(next(iter(data_list(answer)), None))

    def pages(self, listing: Listing, query: ListingQuery) -> Iterator[Page]:
        """The pages of one query, up to the last page or the query's end: see `ListingReader`.

        There is at least one page, but pages can have no records.
        """
        if query.window is not None and listing.messages is not None:
            windows = CampaignWindowReader(
                listing, listing.messages, self._variations, lambda id: self._page(listing, id)
            )
            return windows.read(*query.window)
        return ListingReader(self._sender, self._origin.url(listing.path), listing, self._completion(listing)).read(
            query
        )

    def get(self, listing: Listing, id: str) -> Lookup:
        """Looks up the object with this id.

        An object counts as missing only if Klaviyo's 404 is about this object (`NotFound.denies`). Any other 404 raises
        `NotFound`, because the 404 of an unknown path would otherwise look like a deleted object. Raises `ValueError`
        for a string that cannot be an id.
        """
        include = (("include", ",".join(listing.lookup_include)),) if listing.lookup_include else ()
        params = (*listing.include_params, *include)
        call = Call(listing.get_endpoint, self._address(listing, id), params, data_kind=dict)
        try:
            answer = self._sender.ask(call)
        except NotFound as error:
            if not error.denies(id) or error.observed_at is None:
                raise
            return Lookup(None, error.observed_at, error.attempts)
        stamp, resource = listing.lookup_request_value(answer.body), _as_listed(listing, answer.body["data"])
        inclusion = self._completion(listing)([resource], answer)
        with with_request_info(answer, call.endpoint):
            record = listing.record(resource, stamp, inclusion.included, clean=inclusion.clean)
            if record.id != id:
                raise MalformedAnswer(f"Klaviyo returned {listing.resource_type} {record.id} instead of {id}.")
        return Lookup(record, inclusion.observed_at, answer.attempts + inclusion.requests)

    def _completion(self, listing: Listing) -> Completion:
        """How to complete the answers of this listing: those for campaigns lack the variations of their messages."""
        if listing.messages is None:
            return as_included
        return lambda data, answer: self._variations.complete(data, answer, {})

    def _page(self, listing: Listing, id: str) -> Page:
        """The object with this id, as a page with one record; without records if the object does not exist."""
        found = self.get(listing, id)
        return Page([] if found.record is None else [found.record], found.observed_at, found.requests)

    def report_pages(
        self, report: Report, body: dict[str, object], zone: ZoneInfo | None = None
    ) -> Iterator[ReportPage]:
        """The pages of a report. An answer without rows is valid.

        `body` comes from `reports.body`. `zone` is the account's time zone: see `read_rows`. Raises `CursorExpired` if
        a cursor has expired. The method does not start again by itself, because it would return rows twice.
        """
        first = Call(report.endpoint, self._origin.url(report.path), body=body, data_kind=dict, exact=True)
        for turn in iter_pages(self._sender, first):
            answer = turn.answer
            with with_request_info(answer, first.endpoint):
                found = read_rows(report, answer.body, zone)
            yield ReportPage(found.rows, answer.observed_at, turn.number, found.unknown, found.missing, found.days)

    def aggregates(
        self, metric_id: str, first: date, last: date, zone: ZoneInfo, now: datetime, *, grouped: bool = True
    ) -> Iterator[AggregatePage]:
        """The pages of metric aggregates for the account's days from `first` to `last`, both included.

        The rows also contain the days next to this range. For `now` and `grouped`, see `aggregates.body`. Raises
        `PaginationLoop` if a cursor repeats, and `CursorExpired` if a cursor has expired.
        """
        body, seen = aggregates.body(metric_id, first, last, zone, now, grouped=grouped), set[str]()
        call = Call(
            rates.QUERY_METRIC_AGGREGATES, self._origin.url(aggregates.PATH), body=body, data_kind=dict, exact=True
        )
        while True:
            answer = self._sender.ask(call)
            with with_request_info(answer, call.endpoint):
                found = aggregates.read_rows(answer.body, zone, grouped=grouped)
            yield AggregatePage(found.rows, answer.observed_at, found.days)
            if found.cursor is None:
                return
            if found.cursor in seen:
                raise PaginationLoop(
                    "The pages of metric aggregates do not end: a cursor repeats. Run again later.",
                    endpoint=call.endpoint.name,
                )
            seen.add(found.cursor)
            call = replace(call, body=aggregates.at_cursor(body, found.cursor))

    def metrics(self) -> Iterator[Metric]:
        """Every metric of the account."""
        first = Call(rates.GET_METRICS, self._origin.url("/api/metrics"))
        for turn in iter_pages(self._sender, first):
            with with_request_info(turn.answer, first.endpoint):
                found = [read_metric(one) for one in data_list(turn.answer)]
            yield from found

    def mapped_metric(self, name: str = "revenue") -> str | None:
        """The id of the metric that the account maps to `name`.

        None if the account maps no metric to it, or a custom metric, which reports do not support.
        """
        url = self._origin.url(f"/api/mapped-metrics/{quote(name, safe='')}")
        try:
            answer = self._sender.ask(Call(rates.GET_MAPPED_METRIC, url, _METRIC, data_kind=dict))
        except NotFound as error:
            if not error.denies(name):
                raise
            return None
        return related_metric_id(answer.body)

    def _address(self, listing: Listing, id: str) -> str:
        # With these ids, the path would lead to the listing itself or to its parent.
        if id in ("", ".", ".."):
            raise ValueError(f"{id!r} is not a valid {listing.resource_type} id")
        return self._origin.url(f"{listing.lookup_path or listing.path}/{quote(id, safe='')}")


def _as_listed(listing: Listing, resource: object) -> object:
    """The resource without the attributes that only a lookup returns: lookups and listings must give equal records."""
    attributes = resource.get("attributes") if isinstance(resource, dict) else None
    if not isinstance(resource, dict) or not isinstance(attributes, dict):
        return resource
    kept = {name: value for name, value in attributes.items() if name not in listing.lookup_extras}
    return {**resource, "attributes": kept}
