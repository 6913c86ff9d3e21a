"""The API operations that the client calls, with their published rates and scopes.

Rates (also the daily rate of the reports) and scopes are those of `x-klaviyo-ratelimit` and `x-klaviyo-scopes` in
Klaviyo's OpenAPI description (revision 2026-07-15). An endpoint's name is its `operationId`.
"""

from dataclasses import dataclass

SECOND = 1.0
MINUTE = 60.0
DAY = 86_400.0


@dataclass(frozen=True)
class Rate:
    """A limit: at most `requests` requests in any period of `seconds` seconds."""

    requests: int
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """An API operation. All of its rates apply at the same time, and the key needs all of its scopes."""

    name: str
    rates: tuple[Rate, ...]
    scopes: tuple[str, ...]


def _endpoint(name: str, scope: str, *, second: int, minute: int, day: int | None = None) -> Endpoint:
    rates = (Rate(second, SECOND), Rate(minute, MINUTE))
    return Endpoint(name, rates if day is None else (*rates, Rate(day, DAY)), (scope,))


def _report(name: str, scope: str) -> Endpoint:
    return _endpoint(name, scope, second=1, minute=2, day=225)


GET_ACCOUNTS = _endpoint("get_accounts", "accounts:read", second=1, minute=15)
GET_FLOWS = _endpoint("get_flows", "flows:read", second=3, minute=60)
GET_FLOW = _endpoint("get_flow", "flows:read", second=3, minute=60)
GET_CAMPAIGNS = _endpoint("get_campaigns", "campaigns:read", second=10, minute=150)
GET_CAMPAIGN = _endpoint("get_campaign", "campaigns:read", second=10, minute=150)
GET_CAMPAIGN_MESSAGES = _endpoint("get_campaign_messages", "campaigns:read", second=10, minute=150)
GET_CAMPAIGN_MESSAGE = _endpoint("get_campaign_message", "campaigns:read", second=10, minute=150)
GET_VARIATIONS_FOR_CAMPAIGN_MESSAGE = _endpoint(
    "get_variations_for_campaign_message", "campaigns:read", second=10, minute=150
)
GET_FORMS = _endpoint("get_forms", "forms:read", second=3, minute=60)
GET_FORM = _endpoint("get_form", "forms:read", second=3, minute=60)
GET_SEGMENTS = _endpoint("get_segments", "segments:read", second=75, minute=750)
GET_SEGMENT = _endpoint("get_segment", "segments:read", second=75, minute=750)
GET_LISTS = _endpoint("get_lists", "lists:read", second=75, minute=750)
GET_LIST = _endpoint("get_list", "lists:read", second=75, minute=750)
GET_TEMPLATES = _endpoint("get_templates", "templates:read", second=75, minute=750)
GET_TEMPLATE = _endpoint("get_template", "templates:read", second=75, minute=750)
GET_VERSIONS_FOR_FORM = _endpoint("get_versions_for_form", "forms:read", second=3, minute=60)
GET_FORM_VERSION = _endpoint("get_form_version", "forms:read", second=3, minute=60)
GET_METRIC = _endpoint("get_metric", "metrics:read", second=10, minute=150)
GET_METRICS = _endpoint("get_metrics", "metrics:read", second=10, minute=150)
GET_MAPPED_METRIC = _endpoint("get_mapped_metric", "metrics:read", second=3, minute=60)
QUERY_METRIC_AGGREGATES = _endpoint("query_metric_aggregates", "metrics:read", second=3, minute=60)
GET_TAGS = _endpoint("get_tags", "tags:read", second=3, minute=60)
GET_TAG = _endpoint("get_tag", "tags:read", second=3, minute=60)
QUERY_FLOW_SERIES = _report("query_flow_series", "flows:read")
QUERY_FLOW_VALUES = _report("query_flow_values", "flows:read")
QUERY_CAMPAIGN_VALUES = _report("query_campaign_values", "campaigns:read")
QUERY_FORM_SERIES = _report("query_form_series", "forms:read")
QUERY_FORM_VALUES = _report("query_form_values", "forms:read")
QUERY_SEGMENT_SERIES = _report("query_segment_series", "segments:read")
QUERY_SEGMENT_VALUES = _report("query_segment_values", "segments:read")

ENDPOINTS: dict[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        GET_ACCOUNTS,
        GET_FLOWS,
        GET_FLOW,
        GET_CAMPAIGNS,
        GET_CAMPAIGN,
        GET_CAMPAIGN_MESSAGES,
        GET_CAMPAIGN_MESSAGE,
        GET_VARIATIONS_FOR_CAMPAIGN_MESSAGE,
        GET_FORMS,
        GET_FORM,
        GET_SEGMENTS,
        GET_SEGMENT,
        GET_LISTS,
        GET_LIST,
        GET_TEMPLATES,
        GET_TEMPLATE,
        GET_VERSIONS_FOR_FORM,
        GET_FORM_VERSION,
        GET_METRIC,
        GET_METRICS,
        GET_MAPPED_METRIC,
        QUERY_METRIC_AGGREGATES,
        GET_TAGS,
        GET_TAG,
        QUERY_FLOW_SERIES,
        QUERY_FLOW_VALUES,
        QUERY_CAMPAIGN_VALUES,
        QUERY_FORM_SERIES,
        QUERY_FORM_VALUES,
        QUERY_SEGMENT_SERIES,
        QUERY_SEGMENT_VALUES,
    )
}
