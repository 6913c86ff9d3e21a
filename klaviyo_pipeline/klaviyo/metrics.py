"""Metrics: the types of events in an account. A report counts the events of one metric as conversions.

Code identifies a metric by its id. Names can change, and several metrics can have the same name: each shop may have its
own "Placed Order".
"""

from collections.abc import Mapping
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer
from klaviyo_pipeline.klaviyo.records import read_label


@dataclass(frozen=True)
class Metric:
    """A metric. `integration` is the source of its events, such as "Shopify"; `category` is the category of the
    integration, such as "eCommerce".
    """

    id: str
    name: str | None
    integration: str | None = None
    category: str | None = None


def read_metric(resource: object) -> Metric:
    """The metric in a resource. Raises `MalformedAnswer` if the resource has no id."""
    if not isinstance(resource, Mapping) or not isinstance(resource.get("id"), str):
        raise MalformedAnswer("A metric in the response has no id.")
    attributes = resource.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    integration = attributes.get("integration")
    integration = integration if isinstance(integration, Mapping) else {}
    return Metric(
        id=resource["id"],
        name=_name(attributes.get("name")),
        integration=_name(integration.get("name")),
        category=read_label(integration.get("category")),
    )


def related_metric_id(document: Mapping[str, object]) -> str | None:
    """The id of the metric that a mapped metric refers to; None for a custom metric, which reports do not support."""
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
