"""From a first page to the last, along `links.next`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.calls import Answer, Call, blamed_on
from klaviyo_pipeline.klaviyo.errors import CursorExpired, EndlessListing
from klaviyo_pipeline.klaviyo.sender import Sender

# At the published rates this many pages take more than a day: no account is that large, a loop is likelier.
MOST_PAGES = 100_000


@dataclass(frozen=True)
class Turn:
    """One page as it came. `number` counts from 1, over restarts too: a later page has a higher one."""

    answer: Answer
    number: int
    restarted: bool


def turns(sender: Sender, first: Call, *, restarts: int = 0) -> Iterator[Turn]:
    """The pages of a listing, in order.

    A cursor lives about three days. If one expires midway, the listing starts again from its first page, at
    most `restarts` times: pages come twice then, and none is lost. Raises `EndlessListing` for a link that
    was followed before, and for more than `MOST_PAGES` pages.
    """
    call, followed, restarted = first, set[str](), 0
    number = 0
    while True:
        try:
            answer = sender.ask(call)
        except CursorExpired:
            if call is first or restarted == restarts:
                raise
            call, followed, restarted = first, set(), restarted + 1
            continue
        number += 1
        yield Turn(answer, number, restarted > 0)
        link = next_link(answer.body)
        if link is None:
            return
        with blamed_on(answer, first.endpoint):
            url = sender.origin.follow(link, call.url)
        if url in followed or number >= MOST_PAGES:
            raise EndlessListing(
                f"The listing does not end: page {number} leads back to an earlier one. Run again later.",
                endpoint=first.endpoint.name,
            )
        followed.add(url)
        call = first.at(url)


def next_link(document: Mapping[str, object]) -> object:
    """The link to the next page; None on the last one."""
    links = document.get("links")
    return links.get("next") if isinstance(links, Mapping) else None
