"""The endpoints of reports."""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

from klaviyo_pipeline.sandbox.daily_counts import CountGroup
from klaviyo_pipeline.sandbox.pagination import collection_links, cut_page
from klaviyo_pipeline.sandbox.report_kinds import Report, ReportKind
from klaviyo_pipeline.sandbox.report_requests import ReportRequest, read_report_request
from klaviyo_pipeline.sandbox.report_results import Counter, Dimensions, ResultGroup, result_groups, sort_key
from klaviyo_pipeline.sandbox.request_context import Call
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount, SandboxObject
from klaviyo_pipeline.sandbox.timeframes import Span, cut

CURSOR = "page_cursor"


def query_report(call: Call, report: Report) -> dict[str, Any]:
    """The answer to one request. Raises `ApiError` for a request that the API would reject."""
    account = call.account
    today = call.now.astimezone(ZoneInfo(account.timezone)).date()
    request = read_report_request(call.body, call.content_type, report, account, today, call.now)
    counter = Counter(account, report.kind.kind, request.metric, today)
    results = _results(account, report, request, counter)
    cursor = None
    if report.kind.paged:
        results, cursor = cut_page(
            call,
            CURSOR,
            results,
            lambda result: sort_key(tuple(result["groupings"].values())),
            size=account.report_page_size,
            question=hashlib.blake2b(call.body).hexdigest(),
        )
    return _document(call, report, request, [_without_ids(account, result) for result in results], cursor)


def _results(account: SandboxAccount, report: Report, request: ReportRequest, counter: Counter) -> list[dict[str, Any]]:
    figures = account.figures.groups[report.kind.kind]
    groups = result_groups([(group, _lines(account, report.kind, group)) for group in figures], request)
    visible = []
    for group in groups:
        if not account.zero_groups and not any(counter.counts(group, request.span).values()):
            continue
        statistics = _statistics(group, request, counter)
        visible.append({"groupings": dict(zip(request.group_by, group.key, strict=True)), "statistics": statistics})
    return visible


def _statistics(group: ResultGroup, request: ReportRequest, counter: Counter) -> dict[str, Any]:
    if request.interval is None:
        return dict(counter.statistics(group, request.span, request.statistics))
    parts = [counter.statistics(group, part, request.statistics) for _, part in cut(request.span, request.interval)]
    return {name: [part[name] for part in parts] for name in request.statistics}


def _without_ids(account: SandboxAccount, result: dict[str, Any]) -> dict[str, Any]:
    groupings = {name: None if id in account.ids_left_out else id for name, id in result["groupings"].items()}
    return {**result, "groupings": groupings}


def _document(
    call: Call, report: Report, request: ReportRequest, results: list[dict[str, Any]], cursor: str | None
) -> dict[str, Any]:
    attributes: dict[str, Any] = {"results": results}
    if request.interval is not None:
        attributes["date_times"] = _date_times(call.account, request.span, request.interval)
    requested = call.query.fields.get(report.type)
    if requested is not None:
        attributes = {name: value for name, value in attributes.items() if name in requested}
    data: dict[str, Any] = {
        "type": report.type,
        "id": hashlib.blake2b(call.body, digest_size=16).hexdigest(),
        "attributes": attributes,
    }
    if related := _relationships(report.kind, results):
        data["relationships"] = related
    links = collection_links(call, CURSOR, cursor) if report.kind.paged else {"self": call.self_link()}
    return {"data": data, "links": links}


def _relationships(kind: ReportKind, results: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = {
        "flow": {"flows": ("flow", "flow_id"), "flow-messages": ("flow-message", "flow_message_id")},
        "campaign": {"campaigns": ("campaign", "campaign_id")},
    }.get(kind.kind, {})
    related = {}
    for name, (type, grouping) in wanted.items():
        ids = dict.fromkeys(result["groupings"][grouping] for result in results)
        related[name] = {"data": [{"type": type, "id": id} for id in ids if id is not None]}
    return related


def _date_times(account: SandboxAccount, span: Span, interval: str) -> list[str]:
    zone = UTC if account.report_offset == "utc" else ZoneInfo(account.timezone)
    stamped = [begins.replace(tzinfo=zone) for begins, _ in cut(span, interval)]
    if account.report_offset == "instant":
        stamped = [moment.astimezone(UTC) for moment in stamped]
    return [moment.isoformat(timespec="seconds") for moment in stamped]


def _lines(account: SandboxAccount, kind: ReportKind, group: CountGroup) -> list[Dimensions]:
    """The dimensions by which a group of counts can be grouped or filtered.

    They are repeated for each tag of the flow or campaign, and for each list or segment that a campaign's message was
    sent to, because a recipient counts in all of them.
    """
    if not kind.needs_conversion_metric:
        return [group.groupings]
    entity = f"{kind.kind}s"
    id = group.groupings.get(f"{kind.kind}_id", "")
    owner = account.objects[entity].get(id) or account.deleted[entity].get(id)
    line: dict[str, str | None] = dict.fromkeys(kind.group_by)
    line.update(_names(account, kind, owner, group))
    line.update(group.groupings)
    if kind.kind == "campaign" and account.report_message_ids == "campaign":
        line["campaign_message_id"] = id
    tags = owner.tags if owner else []
    tagged: list[Dimensions] = [{**line, "tag_id": tag, "tag_name": account.tags.get(tag)} for tag in tags] or [line]
    if kind.kind != "campaign" or "group" in group.groupings:
        return tagged
    audiences = _audiences(account, group.groupings.get("campaign_message_id", ""))
    return [{**one, "group": id, "group_name": name} for one in tagged for id, name in audiences] or tagged


def _audiences(account: SandboxAccount, message_id: str) -> list[tuple[str, str | None]]:
    """The lists and segments to which a campaign's message was sent, by id and name."""
    message = account.objects["campaign-messages"].get(message_id)
    audience = (
        account.objects["campaign-audiences"].get(message.parents.get("campaign-audiences", "")) if message else None
    )
    included = audience.attributes["definition"].get("included") or [] if audience else []
    known = {**account.objects["lists"], **account.objects["segments"]}
    return [(id, known[id].attributes.get("name") if id in known else None) for id in included]


def _names(
    account: SandboxAccount, kind: ReportKind, owner: SandboxObject | None, group: CountGroup
) -> dict[str, str | None]:
    if owner is None:
        return {}
    id = group.groupings.get(f"{kind.kind}_message_id")
    format = "sms" if group.groupings.get("send_channel") == "sms" else None
    if kind.kind == "campaign":
        return {**_campaign_names(account, id, group.groupings.get("variation")), "text_message_format": format}
    names: dict[str, str | None] = {"flow_name": owner.attributes.get("name")}
    message = next((known for known in owner.messages if known.id == id), None)
    if message is not None:
        variation = {"variation": message.variation, "variation_name": message.variation}
        names |= {"flow_message_name": message.name, **variation, "text_message_format": format}
    return names


def _campaign_names(account: SandboxAccount, id: str | None, variation_id: str | None) -> dict[str, str | None]:
    names: dict[str, str | None] = {}
    for kind, name, wanted in (
        ("campaign-messages", "campaign_message_name", id),
        ("campaign-variations", "variation_name", variation_id),
    ):
        found = account.objects[kind].get(wanted or "") or account.deleted[kind].get(wanted or "")
        if found is not None:
            names[name] = (found.attributes.get("definition") or {}).get("name")
    return names
