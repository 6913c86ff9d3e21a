"""Records of resources, including malformed ones."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer
from klaviyo_pipeline.klaviyo.listing_revisions import FLAT_CAMPAIGNS
from klaviyo_pipeline.klaviyo.listings import FLOWS, SEGMENTS

from .resources import campaign, flow


def test_a_flow_becomes_typed_columns() -> None:
    record = FLOWS.record(flow("F1"), None)
    assert record.values == {
        "id": "F1",
        "name": "Welcome",
        "status": "live",
        "archived": False,
        "trigger_type": "Metric",
        "created_at": datetime(2026, 1, 1, 10, tzinfo=UTC),
        "updated_at": datetime(2026, 6, 30, 10, tzinfo=UTC),
        "raw": {"id": "F1", "type": "flow", "attributes": flow("F1")["attributes"]},
    }
    assert (record.problems, record.escapes) == ([], 0)
    assert list(record.values) == [column.name for column in FLOWS.columns]


def test_times_with_microseconds_and_offsets_are_the_same_instants() -> None:
    values = FLAT_CAMPAIGNS.record(campaign(), "sms").values
    assert values["scheduled_at"] == datetime(2026, 6, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert values["updated_at"] == datetime(2026, 6, 1, 10, 0, 0, 1, tzinfo=UTC)
    assert (values["send_time"], values["channel"]) == (None, "sms")


def test_null_attributes_are_none_and_no_problem() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("name", "status", "archived", "trigger_type", "created", "updated"))
    record = FLOWS.record(flow(**nothing), None)
    assert record.problems == []
    assert all(value is None for name, value in record.values.items() if name not in ("id", "raw"))


def test_a_missing_attribute_is_none_and_reported() -> None:
    record = FLOWS.record({"type": "flow", "id": "F1", "attributes": {"name": "x"}}, None)
    assert record.values["status"] is None
    assert "flow F1: status is missing" in record.problems
    assert len(record.problems) == 5


@pytest.mark.parametrize(
    ("attribute", "column", "value"),
    [
        ("updated", "updated_at", "soon"),
        ("updated", "updated_at", 17),
        ("name", "name", 17),
        ("name", "name", {"en": "x"}),
        ("archived", "archived", "yes"),
    ],
)
def test_an_invalid_attribute_is_none_reported_and_kept_in_raw(attribute: str, column: str, value: object) -> None:
    record = FLOWS.record(flow("F1", **{attribute: value}), None)
    assert record.values[column] is None
    assert len(record.problems) == 1
    assert record.problems[0].startswith(f"flow F1: {attribute} is not a valid ")
    raw = record.values["raw"]
    assert isinstance(raw, dict)
    assert raw["attributes"][attribute] == value


def test_an_undeclared_attribute_is_kept_in_raw() -> None:
    raw = FLOWS.record(flow(new_thing=[1, {"a": None}]), None).values["raw"]
    assert isinstance(raw, dict)
    assert raw["attributes"]["new_thing"] == [1, {"a": None}]


def test_a_segment_s_definition_is_a_column() -> None:
    definition: dict[str, object] = {"condition_groups": [{"conditions": []}]}
    resource = {"type": "segment", "id": "S", "attributes": {"definition": definition}}
    assert SEGMENTS.record(resource, None).values["definition"] == definition


def test_raw_contains_sorted_ids_of_the_named_relationships_only() -> None:
    shape = replace(FLOWS.shape, relationships=("tags", "owner", "nobody", "flow-actions"))
    related = {
        "tags": {"data": [{"type": "tag", "id": "T2"}, {"type": "tag", "id": "T1"}], "links": {}},
        "owner": {"data": {"type": "user", "id": "U"}},
        "nobody": {"data": None},
        "flow-actions": {"links": {"self": "x"}},
        "unnamed": {"data": []},
    }
    listing = replace(FLOWS, shape=shape)
    raw = listing.record(flow() | {"relationships": related}, None).values["raw"]
    assert isinstance(raw, dict)
    assert raw["relationships"] == {"tags": ["T1", "T2"], "owner": "U", "nobody": None}


def test_another_type_is_reported() -> None:
    assert FLOWS.record(flow() | {"type": "flop"}, None).problems == ["flow F1: its type is 'flop'"]


def test_characters_are_escaped_in_columns_and_raw_and_counted_once() -> None:
    record = FLOWS.record(flow("F\0", name="a\ud800"), None)
    assert (record.id, record.values["id"], record.values["name"]) == ("F␛u0000", "F␛u0000", "a␛uD800")
    raw = record.values["raw"]
    assert isinstance(raw, dict)
    assert (raw["id"], raw["attributes"]["name"]) == ("F␛u0000", "a␛uD800")
    assert record.escapes == 2


@pytest.mark.parametrize(
    "resource",
    [
        None,
        "F1",
        [],
        {},
        {"id": 1, "attributes": {}},
        {"id": "", "attributes": {}},
        {"id": "F1"},
        {"id": "F1", "attributes": []},
        {"id": "F1", "attributes": None},
    ],
)
def test_a_resource_without_id_or_attributes_is_an_error(resource: object) -> None:
    with pytest.raises(MalformedAnswer, match="flow"):
        FLOWS.record(resource, None)
