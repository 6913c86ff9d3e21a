"""Report requests for the tests: good bodies, to be changed one attribute at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import httpx

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount

FLOW = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
DAY = date(2026, 3, 2)


def frame(start: str, end: str, offset: str = "+00:00") -> dict[str, str]:
    return {"start": start + offset, "end": end + offset}


WEEK = frame("2026-03-02T00:00:00", "2026-03-08T23:59:59")


def body(report: str, **attributes: Any) -> dict[str, Any]:
    """A good body of a report, with some attributes changed; None takes one out."""
    kind, form = report.split("-")
    base: dict[str, Any] = {"timeframe": WEEK, "statistics": ["members_added"]}
    base |= {"statistics": ["submits"]} if kind == "form" else {}
    if kind in ("flow", "campaign"):
        base |= {"statistics": ["delivered", "opens_unique", "open_rate"], "conversion_metric_id": "RPlacd"}
    if form == "series":
        base["interval"] = "daily"
    kept = {name: value for name, value in (base | attributes).items() if value is not None}
    return {"data": {"type": f"{report}-report", "attributes": kept}}


def ask(client: httpx.Client, report: str, **attributes: Any) -> httpx.Response:
    return client.post(f"/api/{report}-reports", json=body(report, **attributes))


def results(client: httpx.Client, report: str, **attributes: Any) -> list[dict[str, Any]]:
    answer = ask(client, report, **attributes)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"]["attributes"]["results"])


def set_flow(account: SandboxAccount, day: date = DAY, groupings: Mapping[str, str] = FLOW, **counts: float) -> None:
    account.set_figures("flow", groupings, day, counts)
