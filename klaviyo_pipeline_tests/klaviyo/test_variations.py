"""The variations of messages, and messages that an answer names but does not include."""

from __future__ import annotations

from typing import Any, cast

import pytest

from klaviyo_pipeline.klaviyo.errors import BadRequest
from klaviyo_pipeline.klaviyo.listings import CAMPAIGNS
from klaviyo_pipeline.klaviyo.origin import Origin
from klaviyo_pipeline.klaviyo.sender import Sender
from klaviyo_pipeline.klaviyo.variations import VARIATIONS, VariationReader, id_batches

from .conftest import Bench
from .resources import page
from .scripted_server import Scripted, absent, ok, refused

NAMED = f"'{VARIATIONS}' is not a valid include."


@pytest.mark.parametrize(
    ("pointer", "detail", "refused"),
    [
        ("include", "Invalid input.", True),
        ("/include", "Invalid input.", True),
        (None, NAMED, True),
        (None, "Invalid filter.", False),
        ("filter", "Invalid filter.", False),
    ],
)
def test_a_refused_include_is_recognized(pointer: str | None, detail: str, refused: bool) -> None:
    variations = VariationReader(cast(Sender, None), cast(Origin, None))
    error = BadRequest("refused", detail=detail, pointer=pointer)
    assert variations.is_refusal(error, variations.include) == refused
    assert (VARIATIONS in variations.include) != refused
    assert not variations.is_refusal(error, ("campaign",))


def resource(kind: str, id: str, definition: dict[str, Any], **related: str) -> dict[str, Any]:
    types = {"messages": "campaign-message", "variations": "campaign-variation"}
    relationships = {
        f"campaign-{name}": {"data": [{"type": types[name], "id": other}]} for name, other in related.items()
    }
    return {"type": kind, "id": id, "attributes": {"definition": definition}, "relationships": relationships}


MESSAGE = resource("campaign-message", "M", {"status": "sent"}, variations="V")
VARIATION = ok(page(resource("campaign-variation", "V", {"details": {"channel": "sms"}})))


@pytest.mark.parametrize(
    "answers",
    [
        [ok(page(MESSAGE)), VARIATION],
        [refused(400, NAMED), VARIATION, ok({"data": MESSAGE})],
    ],
    ids=["the listing of messages has it", "only a lookup has it"],
)
def test_a_message_that_an_answer_names_and_does_not_include_is_requested(
    bench: Bench, answers: list[Scripted]
) -> None:
    bench.server.will(ok(page(resource("campaign", "C", {"name": "Sale"}, messages="M"))), *answers)
    [query, _] = CAMPAIGNS.queries(None, None, bench.pacer.now())
    [record] = next(bench.client.pages(CAMPAIGNS, query)).records
    assert (record.values["status"], record.values["channels"]) == ("Sent", ["sms"])
    assert len(bench.server.requested) == 1 + len(answers)


GONE = absent("campaign-message", "M")
OTHERS = ok(page(resource("campaign-variation", "W", {"details": {"channel": "email"}})))


@pytest.mark.parametrize(
    ("included", "answers"),
    [
        ([], [ok(page()), GONE, OTHERS]),
        ([MESSAGE], [refused(400, NAMED), GONE, OTHERS]),
        ([], [refused(400, NAMED), VARIATION, OTHERS, GONE]),
    ],
    ids=["neither it nor its variations exist", "it is deleted after the first answer", "its variations are left"],
)
def test_a_message_that_does_not_exist_is_not_a_child_of_the_campaign_that_names_it(
    bench: Bench, included: list[Any], answers: list[Scripted]
) -> None:
    other = resource("campaign-message", "N", {"status": "draft"}, variations="W")
    campaign = resource("campaign", "C", {"name": "Sale"})
    campaign["relationships"] = {"campaign-messages": {"data": [{"type": "campaign-message", "id": id} for id in "MN"]}}
    bench.server.will(ok(page(campaign) | {"included": [*included, other]}), *answers)
    [query, _] = CAMPAIGNS.queries(None, None, bench.pacer.now())
    [record] = next(bench.client.pages(CAMPAIGNS, query)).records
    assert record.children["campaign_messages"].ids == ("N",)
    assert (record.values["status"], record.values["channels"]) == ("Draft", ["email"])


def test_an_id_that_a_filter_might_misread_is_requested_alone(bench: Bench) -> None:
    odd = "it's, [1]/2"
    message = resource("campaign-message", odd, {"status": "sent"}, variations="V")
    campaign = resource("campaign", "C", {"name": "Sale"}, messages=odd)
    bench.server.will(ok(page(campaign) | {"included": [message]}), VARIATION)
    [query, _] = CAMPAIGNS.queries(None, None, bench.pacer.now())
    [record] = next(bench.client.pages(CAMPAIGNS, query)).records
    assert (record.values["status"], record.values["channels"]) == ("Sent", ["sms"])
    assert bench.server.requested[1].target == ("/api/campaign-messages/it%27s%2C%20%5B1%5D%2F2/campaign-variations")
    assert list(id_batches(["M1", odd, "a-b_c", "é"])) == [["M1", "a-b_c"]]
