"""Requests the variations of campaign messages, which no request for campaigns returns.

According to Klaviyo's API reference, the listing of messages can include variations; according to its SDK, it cannot.
If Klaviyo refuses the include, the variations are requested message by message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.calls import Answer, Call
from klaviyo_pipeline.klaviyo.children import NOT_FOUND, Inclusion, included_of, inclusion_of, related_ids
from klaviyo_pipeline.klaviyo.errors import BadRequest, NotFound
from klaviyo_pipeline.klaviyo.filters import Condition
from klaviyo_pipeline.klaviyo.nested_campaigns import MESSAGE, VARIATION, message_ids
from klaviyo_pipeline.klaviyo.origin import Origin
from klaviyo_pipeline.klaviyo.paging import data_list, iter_pages
from klaviyo_pipeline.klaviyo.records import Resource
from klaviyo_pipeline.klaviyo.sender import Sender

MESSAGES_PATH = "/api/campaign-messages"
IDS_PER_REQUEST = 100
LONGEST_FILTER = 3_500
"""The maximum length of the ids in a filter, with their quotes and commas, in characters. In the URL, each quote or
comma takes three."""

VARIATIONS = "campaign-variations"

_PLAIN_ID = re.compile(r"[\w.:-]+", re.ASCII)


@dataclass(frozen=True)
class MessageTree:
    """A message with its variations, observed at `observed_at` (UTC).

    `message` is None if only the variations were requested. `variations` is None if the answer does not contain all of
    them. `clean` means that no text needs an escape.
    """

    message: Resource | None
    variations: tuple[Resource, ...] | None
    observed_at: datetime
    clean: bool = True


@dataclass
class VariationReader:
    """Requests variations. Once Klaviyo has refused to include them, the reader does not request the include again."""

    sender: Sender
    origin: Origin
    is_include_refused: bool = False

    @property
    def include(self) -> tuple[str, ...]:
        """The relationships that a listing of messages should include."""
        return ("campaign",) if self.is_include_refused else ("campaign", VARIATIONS)

    def is_refusal(self, error: BadRequest, include: Sequence[str]) -> bool:
        """Whether Klaviyo refuses to include variations. If so, later requests leave out this include."""
        # Klaviyo's errors do not always point to the parameter, so an error whose text names the include also counts as
        # a refusal. If the error has another cause, the request without the include fails too.
        refused = VARIATIONS in include and ("include" in (error.pointer or "") or VARIATIONS in (error.detail or ""))
        self.is_include_refused |= refused
        return refused

    def complete(self, campaigns: Sequence[object], answer: Answer, known: Mapping[str, MessageTree]) -> Inclusion:
        """The resources that `answer` includes for these campaigns, with the variations of their messages.

        `known` are messages that were read before. The variations that they already have are not requested again. A
        message for which Klaviyo answers 404 is included as `NOT_FOUND`.
        """
        done = inclusion_of(answer)
        included = dict(done.included)
        ids = [id for one in campaigns if isinstance(one, Mapping) for id in message_ids(one, included)]
        trees = {id: known[id] for id in ids if id in known and known[id].variations is not None}
        trees |= self._requested([id for id in dict.fromkeys(ids) if id not in trees], done)
        included |= {(MESSAGE, id): NOT_FOUND for id in ids if id not in trees}
        for id, tree in trees.items():
            done.observed_at = min(done.observed_at, tree.observed_at)
            done.clean &= tree.clean
            message = included.get((MESSAGE, id)) or tree.message or (known[id].message if id in known else None)
            message = message or self._message(id, done)
            included[MESSAGE, id] = NOT_FOUND if message is None else _with_variations(message, tree.variations)
            included |= {(VARIATION, str(one["id"])): one for one in tree.variations or ()}
        done.included = included
        return done

    def _requested(self, ids: Sequence[str], done: Inclusion) -> dict[str, MessageTree]:
        found = dict[str, MessageTree]()
        for batch in id_batches(ids):
            if not self.is_include_refused:
                found |= self._listed(batch, done)
        for id in ids:
            if id not in found or found[id].variations is None:
                message = found[id].message if id in found else None
                found |= {id: replace(tree, message=message) for id, tree in self._of_one(id, done).items()}
        return found

    def _listed(self, ids: Sequence[str], done: Inclusion) -> dict[str, MessageTree]:
        """The messages with these ids and their variations, from one listing; empty if Klaviyo refuses the include."""
        params = (
            ("filter", str(Condition("any", "id", tuple(ids)))),
            ("sort", "id"),
            ("page[size]", str(IDS_PER_REQUEST)),
            ("include", VARIATIONS),
        )
        first = Call(rates.GET_CAMPAIGN_MESSAGES, self.origin.url(MESSAGES_PATH), params)
        found = dict[str, MessageTree]()
        try:
            for turn in iter_pages(self.sender, first):
                done.requests += turn.answer.attempts
                found |= message_trees(turn.answer)
        except BadRequest as error:
            done.requests += error.attempts
            if not self.is_refusal(error, (VARIATIONS,)):
                raise
        return found

    def _of_one(self, id: str, done: Inclusion) -> dict[str, MessageTree]:
        """The variations of one message, by its id; empty if Klaviyo answers that the message does not exist."""
        url = self.origin.url(f"{MESSAGES_PATH}/{quote(id, safe='')}/{VARIATIONS}")
        variations, observed_at, clean = list[Resource](), None, True
        try:
            for turn in iter_pages(self.sender, Call(rates.GET_VARIATIONS_FOR_CAMPAIGN_MESSAGE, url)):
                done.requests += turn.answer.attempts
                observed_at = observed_at or turn.answer.observed_at
                clean &= turn.answer.clean
                variations += [one for one in data_list(turn.answer) if _has_id(one)]  # type: ignore[misc]
        except NotFound as error:
            if not error.denies(id):
                raise
            done.requests += error.attempts
            return {}
        assert observed_at is not None
        return {id: MessageTree(None, tuple(variations), observed_at, clean)}

    def _message(self, id: str, done: Inclusion) -> Resource | None:
        """Requests one message that an answer names but does not include; None if the message does not exist."""
        url = self.origin.url(f"{MESSAGES_PATH}/{quote(id, safe='')}")
        try:
            answer = self.sender.ask(Call(rates.GET_CAMPAIGN_MESSAGE, url, data_kind=dict))
        except NotFound as error:
            if not error.denies(id):
                raise
            done.requests += error.attempts
            return None
        done.requests += answer.attempts
        done.observed_at = min(done.observed_at, answer.observed_at)
        done.clean &= answer.clean
        data = answer.body["data"]
        return data if isinstance(data, Mapping) else None


def message_trees(answer: Answer) -> dict[str, MessageTree]:
    """The messages of an answer by id, each with its variations if the answer includes all of them."""
    included = included_of(answer.body)
    by_message: dict[str, list[str]] = {}
    for (kind, id), one in included.items():
        if kind == VARIATION:
            for owner in related_ids(one, MESSAGE) or ():
                by_message.setdefault(owner, []).append(id)
    trees = dict[str, MessageTree]()
    for message in data_list(answer):
        if not _has_id(message):
            continue
        assert isinstance(message, Mapping)
        ids = related_ids(message, VARIATIONS)
        named = by_message.get(message["id"]) if ids is None else ids
        known = named is not None and all((VARIATION, id) in included for id in named)
        variations = tuple(included[VARIATION, id] for id in named or ()) if known else None
        trees[message["id"]] = MessageTree(message, variations, answer.observed_at, answer.clean)
    return trees


def _has_id(resource: object) -> bool:
    return isinstance(resource, Mapping) and isinstance(resource.get("id"), str)


def _with_variations(message: Resource, variations: Iterable[Resource] | None) -> Resource:
    """The message with a relationship to these variations; unchanged if `variations` is None."""
    if variations is None:
        return message
    data = [{"type": VARIATION, "id": one["id"]} for one in variations]
    relationships = message.get("relationships")
    others = relationships if isinstance(relationships, Mapping) else {}
    return {**message, "relationships": {**others, VARIATIONS: {"data": data}}}


def id_batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in batches, each as large as the URL of a request allows.

    Ids with special characters, such as quotes, are left out, since Klaviyo does not document how to escape them in a
    filter.
    """
    batch, length = list[str](), 0
    for id in filter(_PLAIN_ID.fullmatch, ids):
        if batch and (len(batch) == IDS_PER_REQUEST or length + len(id) + 3 > LONGEST_FILTER):
            yield batch
            batch, length = [], 0
        batch.append(id)
        length += len(id) + 3
    if batch:
        yield batch
