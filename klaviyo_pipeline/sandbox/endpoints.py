"""Every operation that the sandbox supports, by its name in the API's description: path, scopes, rates, parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from klaviyo_pipeline.sandbox import directory
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES, FLOW_FIELDS, Entity
from klaviyo_pipeline.sandbox.limits import DAY, Rate
from klaviyo_pipeline.sandbox.listing_endpoints import CURSOR, get_object, list_objects
from klaviyo_pipeline.sandbox.parameters import Parameters
from klaviyo_pipeline.sandbox.report_endpoints import CURSOR as REPORT_CURSOR
from klaviyo_pipeline.sandbox.report_endpoints import query_report
from klaviyo_pipeline.sandbox.report_kinds import REPORTS, Report
from klaviyo_pipeline.sandbox.request_context import Call

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


ENDPOINTS: tuple[Endpoint, ...] = (
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
    _listing(ENTITIES["campaigns"], LARGE),
    _by_id(ENTITIES["campaigns"], LARGE),
    _listing(ENTITIES["forms"], MEDIUM),
    _by_id(ENTITIES["forms"], MEDIUM),
    _listing(ENTITIES["segments"], EXTRA_LARGE),
    _by_id(ENTITIES["segments"], EXTRA_LARGE, slow_rates=SMALL),
    _listing(ENTITIES["lists"], EXTRA_LARGE),
    _by_id(ENTITIES["lists"], EXTRA_LARGE, slow_rates=SMALL),
    *(_report(report) for report in REPORTS),
)
