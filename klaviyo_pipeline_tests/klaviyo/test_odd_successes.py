"""Responses with status 200 or 202 without a document, or with one that a JSON library or Postgres does not accept."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.escape import DEEP
from klaviyo_pipeline.klaviyo.listings import FLOWS
from klaviyo_pipeline.klaviyo.nesting import MOST_LEVELS

from .conftest import Bench, failing
from .scripted_server import Scripted

NOW = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"",
        b'{"data": [',
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": [NaN]}',
        b'{"data": ["\xff"]}',
        b'{"data": [' * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_success_without_a_document_is_retried_and_never_an_empty_page(bench: Bench, body: bytes) -> None:
    bench.server.will(*[Scripted(200, body)] * 5)
    assert failing(bench, errors.MalformedAnswer).status == 200
    assert len(bench.server.requested) == 5


def test_a_202_is_malformed(bench: Bench) -> None:
    bench.server.will(*[Scripted(202)] * 5)
    failing(bench, errors.MalformedAnswer)


@pytest.mark.parametrize("figure", ["NaN", "-Infinity"])
def test_a_number_that_json_does_not_have_is_named(bench: Bench, figure: str) -> None:
    bench.server.will(*[Scripted(200, f'{{"data": [{figure}]}}'.encode())] * 5)
    assert f"it contains {figure}, which is not valid JSON. Check" in str(failing(bench, errors.MalformedAnswer))


@pytest.mark.parametrize("figure", ["1e999", "-1e999", "9" * 5_000], ids=["1e999", "-1e999", "5,000 digits"])
def test_a_number_that_is_too_large_is_kept_as_text_and_fails_no_page(bench: Bench, figure: str) -> None:
    body = f'{{"data": [{{"type": "flow", "id": "ODD", "attributes": {{"odd": {figure}}}}}]}}'
    bench.server.will(Scripted(200, body.encode()))
    [page] = bench.client.pages(FLOWS, FLOWS.queries(None, None, NOW)[0])
    [record] = page.records
    assert record.values["raw"] == {"id": "ODD", "type": "flow", "attributes": {"odd": figure}}


def written_flow(id: str, name: str) -> str:
    """A flow whose name is this JSON text. A JSON library could not write it at such a depth."""
    return f'{{"type": "flow", "id": "{id}", "attributes": {{"name": {name}}}}}'


def document(data: str) -> Scripted:
    return Scripted(200, f'{{"data": {data}}}'.encode())


@pytest.mark.parametrize("levels", [101, 500, 990, 100_000])
def test_an_object_that_is_nested_too_deep_fails_no_page_and_keeps_deep_levels_as_text(
    bench: Bench, levels: int
) -> None:
    deep = '{"a": ["]", 1, ' * levels + '"\\u0000"' + "]}" * levels
    plain = written_flow("F", '"N"')
    bench.server.will(document(f"[{written_flow('DEEP', deep)}, {plain}]"))
    [page] = bench.client.pages(FLOWS, FLOWS.queries(None, None, NOW)[0])
    record, neighbour = page.records
    assert neighbour.values["name"] == "N"
    assert record.escapes == 1
    assert record.problems[-1].startswith("flow DEEP: name is not a valid text")
    # The resource and its attributes are two of the hundred levels; each repetition adds two more.
    raw = record.values["raw"]
    assert isinstance(raw, dict)
    value = raw["attributes"]["name"]
    for _ in range((MOST_LEVELS - 2) // 2):
        assert value["a"][:2] == ["]", 1]
        value = value["a"][2]
    assert value == DEEP + deep[len('{"a": ["]", 1, ') * 49 : len(deep) - 2 * 49]


def test_an_object_by_id_is_cut_at_the_same_depth_as_in_a_listing(bench: Bench) -> None:
    resource = written_flow("F", "[" * 300 + "]" * 300)
    bench.server.will(document(f"[{resource}]"), document(resource))
    [page] = bench.client.pages(FLOWS, FLOWS.queries(None, None, NOW)[0])
    found = bench.client.get(FLOWS, "F").record
    assert found is not None
    assert found.values["raw"] == page.records[0].values["raw"]
