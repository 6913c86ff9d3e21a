"""The parts that the descriptions of both revisions share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from klaviyo_pipeline.sandbox.endpoints import Endpoint


def assert_filters(endpoint: Endpoint, described: Mapping[str, Any]) -> None:
    """The endpoint's filters have the described fields, operators, values and types."""
    ours = endpoint.parameters.filters
    assert ours.keys() == described.keys()
    for name, field in ours.items():
        operators, value = described[name]["operators"], described[name]["value"]
        assert set(field.single) == set(operators.get("single", [])), name
        assert set(field.list) == set(operators.get("list", [])), name
        assert set(field.values) == set(value.get("enum", [])), name
        kind = "datetime" if value.get("format") == "date-time" else value["type"]
        assert field.kind == kind, name
