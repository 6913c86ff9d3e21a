"""Metrics: the kinds of events that an account counts, of which one counts as a conversion.

Names change and repeat within an account (several shops may each bring a "Placed Order"): hold on to ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer


@dataclass(frozen=True)
class Metric:
    """`integration` is the name of what sends its events ("Shopify"), `category` its kind ("eCommerce")."""

    id: str
    name: str | None
    integration: str | None = None
    category: str | None = None


def read_metric(resource: object) -> Metric:
    """The metric of a resource; raises `MalformedAnswer` without an id."""
    if not isinstance(resource, Mapping) or not isinstance(resource.get("id"), str):
        raise MalformedAnswer("A metric in the answer has no id.")
    attributes = resource.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    integration = attributes.get("integration")
    integration = integration if isinstance(integration, Mapping) else {}
    return Metric(
        id=resource["id"],
        name=_name(attributes.get("name")),
        integration=_name(integration.get("name")),
        category=_category(integration.get("category")),
    )


def related_metric_id(document: Mapping[str, object]) -> str | None:
    """The metric that a mapped metric stands for; None for a custom metric, which no report takes."""
    data = document.get("data")
    relationships = data.get("relationships") if isinstance(data, Mapping) else None
    related = relationships.get("metric") if isinstance(relationships, Mapping) else None
    identifier = related.get("data") if isinstance(related, Mapping) else None
    found = identifier.get("id") if isinstance(identifier, Mapping) else None
    return found if isinstance(found, str) else _included_metric_id(document.get("included"))


def _included_metric_id(included: object) -> str | None:
    resources = included if isinstance(included, list) else []
    metrics = [one for one in resources if isinstance(one, Mapping) and one.get("type") == "metric"]
    return next((one["id"] for one in metrics if isinstance(one.get("id"), str)), None)


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _category(value: object) -> str | None:
    """Of an integration; text, or as `{"id": 1, "category": "eCommerce"}`."""
    return _name(value.get("category", value.get("name")) if isinstance(value, Mapping) else value)
