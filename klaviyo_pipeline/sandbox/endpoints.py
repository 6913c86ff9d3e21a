"""Every operation that the sandbox answers, by revision: its path, scopes, rates and parameters.

The names of the operations are those in the API's description. Only the operations on campaigns and their parts differ
between the revisions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any

from klaviyo_pipeline.sandbox import directory, form_versions, older_campaign_endpoints
from klaviyo_pipeline.sandbox.aggregate_endpoint import query_metric_aggregates
from klaviyo_pipeline.sandbox.campaign_endpoints import (
    get_campaign_object,
    get_related,
    get_related_ids,
    list_campaign_objects,
)
from klaviyo_pipeline.sandbox.campaign_kinds import (
    AUDIENCES,
    CAMPAIGN_KINDS,
    CAMPAIGNS,
    MESSAGES,
    VARIATIONS,
    CampaignKind,
)
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, FLOW_FIELDS, Entity
from klaviyo_pipeline.sandbox.limits import DAY, Rate
from klaviyo_pipeline.sandbox.listing_endpoints import CURSOR, get_object, list_objects
from klaviyo_pipeline.sandbox.parameters import Parameters
from klaviyo_pipeline.sandbox.report_endpoints import CURSOR as REPORT_CURSOR
from klaviyo_pipeline.sandbox.report_endpoints import query_report
from klaviyo_pipeline.sandbox.report_kinds import REPORTS, Report
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.revisions import NEWEST, OLDER

Handler = Callable[[Call], dict[str, Any]]


def _rates(burst: int, steady: int, daily: int | None = None) -> tuple[Rate, ...]:
    rates = (Rate(burst, 1), Rate(steady, 60))
    return rates if daily is None else (*rates, Rate(daily, DAY))


SMALL, MEDIUM, LARGE, EXTRA_LARGE = _rates(1, 15), _rates(3, 60), _rates(10, 150), _rates(75, 750)
REPORTING = _rates(1, 2, 225)


@dataclass(frozen=True)
class Endpoint:
    """One operation. `slow_rates` apply to requests with `additional-fields`, which are counted separately."""

    name: str
    method: str
    path: str
    scopes: tuple[str, ...]
    rates: tuple[Rate, ...]
    parameters: Parameters
    handler: Handler
    slow_rates: tuple[Rate, ...] | None = None
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        path = self.path.replace("{id}", "(?P<id>[^/]+)")
        object.__setattr__(self, "pattern", re.compile(f"{path}/?\\Z"))


def _listing(entity: Entity, rates: tuple[Rate, ...]) -> Endpoint:
    parameters = Parameters(
        filters=entity.filters,
        cursor=CURSOR,
        page_size=(entity.page_size, entity.max_page_size),
        sorts=entity.sorts,
        includes=entity.includes,
        fields=entity.fields,
        additional=(entity.type, entity.additional) if entity.additional_in_listing else None,
    )
    handler = partial(list_objects, name=entity.name)
    scopes = (f"{entity.name}:read",)
    return Endpoint(f"get_{entity.name}", "GET", f"/api/{entity.name}", scopes, rates, parameters, handler)


def _by_id(entity: Entity, rates: tuple[Rate, ...], slow_rates: tuple[Rate, ...] | None = None) -> Endpoint:
    heavy = (*entity.additional, "definition") if entity.name == "forms" else entity.additional
    parameters = Parameters(
        includes=entity.includes,
        fields={**entity.fields, entity.type: (*entity.fields[entity.type], *heavy)},
        additional=(entity.type, entity.additional) if entity.additional else None,
    )
    return Endpoint(
        name=f"get_{entity.type}",
        method="GET",
        path=f"/api/{entity.name}/{{id}}",
        scopes=(f"{entity.name}:read",),
        rates=rates,
        parameters=parameters,
        handler=partial(get_object, name=entity.name),
        slow_rates=slow_rates,
    )


def _form_versions() -> tuple[Endpoint, ...]:
    """The versions of a form as resources and as ids, and one version by id."""
    fields = {"form-version": form_versions.FIELDS}
    page = Parameters(
        filters=form_versions.FILTERS, cursor=CURSOR, page_size=(20, 100), sorts=("created_at", "updated_at")
    )
    single = Parameters(includes=("form",), fields={**fields, "form": ENTITIES["forms"].fields["form"]})
    declared = (
        ("get_versions_for_form", "forms/{id}/form-versions", replace(page, fields=fields), form_versions.of_form),
        ("get_version_ids_for_form", "forms/{id}/relationships/form-versions", page, form_versions.ids),
        ("get_form_version", "form-versions/{id}", single, form_versions.by_id),
    )
    return tuple(
        Endpoint(name, "GET", f"/api/{path}", ("forms:read",), MEDIUM, parameters, handler)
        for name, path, parameters, handler in declared
    )


def _report(report: Report) -> Endpoint:
    kind = report.kind.kind
    parameters = Parameters(fields={report.type: report.fields}, cursor=REPORT_CURSOR if report.kind.paged else None)
    return Endpoint(
        name=f"query_{kind}_{'series' if report.series else 'values'}",
        method="POST",
        path=f"/api/{report.type}s",
        scopes=(f"{kind}s:read",),
        rates=REPORTING,
        parameters=parameters,
        handler=partial(query_report, report=report),
    )


_ACCOUNT_FIELDS = (
    "contact_information",
    "id",
    "industry",
    "locale",
    "preferred_currency",
    "public_api_key",
    "test_account",
    "timezone",
)
_METRIC_FIELDS = ("created", "id", "integration", "name", "updated")
_ACCOUNT = Parameters(fields={"account": _ACCOUNT_FIELDS})
_METRIC = Parameters(includes=("flow-triggers",), fields={"metric": _METRIC_FIELDS, "flow": FLOW_FIELDS})
_METRICS = Parameters(filters=directory.METRIC_FILTERS, cursor=CURSOR, includes=_METRIC.includes, fields=_METRIC.fields)
_MAPPED = Parameters(
    includes=("custom-metric", "metric"),
    fields={
        "custom-metric": ("created", "definition", "id", "name", "updated"),
        "mapped-metric": ("id", "updated"),
        "metric": _METRIC_FIELDS,
    },
)
_TAG = Parameters(
    includes=("tag-group",),
    fields={"tag": ("id", "name"), "tag-group": ("default", "exclusive", "id", "name")},
)
_TAGS = Parameters(
    filters=directory.TAG_FILTERS,
    cursor=CURSOR,
    page_size=(50, 50),
    sorts=("id", "name"),
    includes=_TAG.includes,
    fields=_TAG.fields,
)


def _directory(name: str, path: str, rates: tuple[Rate, ...], parameters: Parameters, handler: Handler) -> Endpoint:
    scope = "metrics" if "metrics" in path else path.removesuffix("/{id}")
    return Endpoint(name, "GET", f"/api/{path}", (f"{scope}:read",), rates, parameters, handler)


_CAMPAIGN_SCOPES, _TAG_SCOPES = ("campaigns:read",), ("campaigns:read", "tags:read")
_TAGS_ONLY = Parameters(fields={"tag": ("id", "name")})
_OLDER_MESSAGE = Parameters(
    includes=("campaign", "image", "template"),
    fields={
        "campaign": ENTITIES["campaigns"].fields["campaign"],
        "campaign-message": ENTITIES["campaigns"].fields["campaign-message"],
        "image": ("format", "hidden", "id", "image_url", "name", "size", "updated_at"),
        "template": ("amp", "created", "editor_type", "html", "id", "name", "text", "updated"),
    },
)


def _older(name: str, path: str, parameters: Parameters, handler: Handler) -> Endpoint:
    tags = path.endswith("/tags")
    scopes, rates = (_TAG_SCOPES, MEDIUM) if tags else (_CAMPAIGN_SCOPES, LARGE)
    return Endpoint(name, "GET", f"/api/{path}", scopes, rates, parameters, handler)


def _campaign_listing(name: str, kind: CampaignKind) -> Endpoint:
    parameters = Parameters(
        filters=kind.filters,
        cursor=CURSOR,
        page_size=kind.page_size,
        sorts=kind.sorts,
        includes=kind.includes,
        fields={kind.type: kind.fields, **kind.related_fields},
    )
    handler = partial(list_campaign_objects, kind=kind)
    return Endpoint(name, "GET", f"/api/{kind.name}", _CAMPAIGN_SCOPES, LARGE, parameters, handler)


def _campaign_object(name: str, kind: CampaignKind) -> Endpoint:
    parameters = Parameters(includes=kind.includes, fields={kind.type: kind.fields, **kind.related_fields})
    handler = partial(get_campaign_object, kind=kind)
    return Endpoint(name, "GET", f"/api/{kind.name}/{{id}}", _CAMPAIGN_SCOPES, LARGE, parameters, handler)


def _links(kind: CampaignKind, relation: str, objects: str, ids: str) -> tuple[Endpoint, Endpoint]:
    """The related objects of an object of this kind: as resources (the operation `objects`), and as ids (`ids`)."""
    target = kind.relations[relation]
    paged = target.many and target.type == "campaign-message"
    cursor = CURSOR if paged else None
    known = CAMPAIGN_KINDS[target.kind].fields if target.kind else ("id", "name")
    both = kind is CAMPAIGNS and relation == "campaign-messages"
    fields = {target.type: known, **({kind.type: kind.fields} if both else {})}
    scopes, rates = (_TAG_SCOPES, MEDIUM) if target.type == "tag" else (_CAMPAIGN_SCOPES, LARGE)
    home = f"/api/{kind.name}/{{id}}"
    parameters = Parameters(cursor=cursor, includes=("campaign",) if both else (), fields=fields)
    as_objects = partial(get_related, kind=kind, name=relation)
    as_ids = partial(get_related_ids, kind=kind, name=relation)
    return (
        Endpoint(objects, "GET", f"{home}/{relation}", scopes, rates, parameters, as_objects),
        Endpoint(ids, "GET", f"{home}/relationships/{relation}", scopes, rates, Parameters(cursor=cursor), as_ids),
    )


_SHARED: tuple[Endpoint, ...] = (
    _directory("get_accounts", "accounts", SMALL, _ACCOUNT, directory.list_accounts),
    _directory("get_account", "accounts/{id}", SMALL, _ACCOUNT, directory.get_account),
    _directory("get_metrics", "metrics", LARGE, _METRICS, directory.list_metrics),
    _directory("get_metric", "metrics/{id}", LARGE, _METRIC, directory.get_metric),
    _directory("get_mapped_metrics", "mapped-metrics", MEDIUM, _MAPPED, directory.list_mapped_metrics),
    _directory("get_mapped_metric", "mapped-metrics/{id}", MEDIUM, _MAPPED, directory.get_mapped_metric),
    _directory("get_tags", "tags", MEDIUM, _TAGS, directory.list_tags),
    _directory("get_tag", "tags/{id}", MEDIUM, _TAG, directory.get_tag),
    _listing(ENTITIES["flows"], MEDIUM),
    _by_id(ENTITIES["flows"], MEDIUM),
    _listing(ENTITIES["forms"], MEDIUM),
    _by_id(ENTITIES["forms"], MEDIUM),
    _listing(ENTITIES["segments"], EXTRA_LARGE),
    _by_id(ENTITIES["segments"], EXTRA_LARGE, slow_rates=SMALL),
    _listing(ENTITIES["lists"], EXTRA_LARGE),
    _by_id(ENTITIES["lists"], EXTRA_LARGE, slow_rates=SMALL),
    _listing(ENTITIES["templates"], EXTRA_LARGE),
    _by_id(ENTITIES["templates"], EXTRA_LARGE),
    *_form_versions(),
    *(_report(report) for report in REPORTS),
    Endpoint(
        name="query_metric_aggregates",
        method="POST",
        path="/api/metric-aggregates",
        scopes=("metrics:read",),
        rates=MEDIUM,
        parameters=Parameters(fields={"metric-aggregate": ("data", "dates", "id")}),
        handler=query_metric_aggregates,
    ),
)

_OLDER_CAMPAIGNS = (
    _listing(ENTITIES["campaigns"], LARGE),
    _by_id(ENTITIES["campaigns"], LARGE),
    _older("get_campaign_message", "campaign-messages/{id}", _OLDER_MESSAGE, older_campaign_endpoints.get_message),
    _older(
        "get_messages_for_campaign",
        "campaigns/{id}/campaign-messages",
        _OLDER_MESSAGE,
        older_campaign_endpoints.list_messages,
    ),
    _older(
        "get_message_ids_for_campaign",
        "campaigns/{id}/relationships/campaign-messages",
        Parameters(),
        older_campaign_endpoints.list_message_ids,
    ),
    _older("get_tags_for_campaign", "campaigns/{id}/tags", _TAGS_ONLY, older_campaign_endpoints.list_tags),
    _older(
        "get_tag_ids_for_campaign",
        "campaigns/{id}/relationships/tags",
        Parameters(),
        older_campaign_endpoints.list_tag_ids,
    ),
)
_CAMPAIGNS = (
    _campaign_listing("get_campaigns", CAMPAIGNS),
    _campaign_object("get_campaign", CAMPAIGNS),
    *_links(
        CAMPAIGNS,
        "campaign-audiences",
        "get_campaign_audiences_for_campaign",
        "get_audience_ids_for_campaign",
    ),
    *_links(CAMPAIGNS, "campaign-messages", "get_messages_for_campaign", "get_message_ids_for_campaign"),
    *_links(CAMPAIGNS, "tags", "get_tags_for_campaign", "get_tag_ids_for_campaign"),
    _campaign_object("get_campaign_audience", AUDIENCES),
    *_links(AUDIENCES, "campaign", "get_campaign_for_campaign_audience", "get_campaign_id_for_campaign_audience"),
    *_links(
        AUDIENCES,
        "campaign-messages",
        "get_campaign_messages_for_campaign_audience",
        "get_message_ids_for_campaign_audience",
    ),
    _campaign_listing("get_campaign_messages", MESSAGES),
    _campaign_object("get_campaign_message", MESSAGES),
    *_links(MESSAGES, "campaign", "get_campaign_for_campaign_message", "get_campaign_id_for_campaign_message"),
    *_links(
        MESSAGES,
        "campaign-audience",
        "get_audience_for_campaign_message",
        "get_audience_id_for_campaign_message",
    ),
    *_links(
        MESSAGES,
        "campaign-variations",
        "get_variations_for_campaign_message",
        "get_variation_ids_for_campaign_message",
    ),
    *_links(MESSAGES, "tags", "get_tags_for_campaign_message", "get_tag_ids_for_campaign_message"),
    _campaign_object("get_campaign_variation", VARIATIONS),
    *_links(
        VARIATIONS,
        "campaign-message",
        "get_message_for_campaign_variation",
        "get_message_id_for_campaign_variation",
    ),
)

ENDPOINTS: Mapping[date, tuple[Endpoint, ...]] = {
    OLDER: (*_SHARED, *_OLDER_CAMPAIGNS),
    NEWEST: (*_SHARED, *_CAMPAIGNS),
}
"""The operations of each revision."""
