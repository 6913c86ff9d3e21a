"""Answers as Klaviyo writes them."""

from collections.abc import Mapping

from klaviyo_pipeline.klaviyo.reports import FLOW_SERIES


def flow(id: str = "F1", **attributes: object) -> dict[str, object]:
    reported: dict[str, object] = {
        "name": "Welcome",
        "status": "live",
        "archived": False,
        "trigger_type": "Metric",
        "created": "2026-01-01T10:00:00+00:00",
        "updated": "2026-06-30T10:00:00+00:00",
    }
    return {"type": "flow", "id": id, "attributes": reported | attributes, "links": {"self": f"https://x/{id}"}}


def campaign(id: str = "C1", **attributes: object) -> dict[str, object]:
    reported: dict[str, object] = {
        "name": "Summer",
        "status": "Sent",
        "archived": False,
        "scheduled_at": "2026-06-01T10:00:00.123456+00:00",
        "send_time": None,
        "created_at": "2026-05-01T10:00:00.5+00:00",
        "updated_at": "2026-06-01T12:00:00.000001+02:00",
    }
    return {"type": "campaign", "id": id, "attributes": reported | attributes}


def page(*resources: object, next: object = None) -> dict[str, object]:
    return {"data": list(resources), "links": {"self": "https://x/", "next": next, "prev": None}}


def series(results: list[Mapping[str, object]], days: list[str], next: object = None) -> dict[str, object]:
    return {
        "data": {"type": "flow-series-report", "attributes": {"results": results, "date_times": days}},
        "links": {"self": "https://x/", "next": next},
    }


def result(length: int, flow_id: str = "F1", **statistics: object) -> dict[str, object]:
    reported: dict[str, object] = {name: [0.0] * length for name in FLOW_SERIES.statistics}
    groupings = {"flow_id": flow_id, "flow_message_id": "M1", "send_channel": "email"}
    return {"groupings": groupings, "statistics": reported | statistics}
