from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest

from klaviyo_pipeline.sandbox.filter_grammar import Condition, MalformedFilterError, Word, parse_filter
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.sandbox.conftest import NOW, client_of, error_of, ids


@pytest.fixture(scope="module")
def shop() -> Iterator[httpx.Client]:
    """Three flows, two campaigns, two forms and two segments, seconds apart."""
    account = SandboxAccount(clock=lambda: NOW, gt_includes_bound=False)
    for second, (id, name, status) in enumerate(
        [("A", "Alpha one", "live"), ("B", "Beta, it's", "draft"), ("C", None, None)]
    ):
        moment = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
        account.put("flows", id, name=name, status=status, trigger_type="Metric", created=moment, updated=moment)
    account.put("flows", "D", name="null times")
    moment = datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    account.put("campaigns", "E", name="Mail", status="Sent", updated_at=moment, created_at=moment)
    account.put("campaigns", "S", name="Text", channels=["sms"], scheduled_at=moment)
    account.put("forms", "F", name="one", status="live", ab_test=True)
    account.put("forms", "G", name="two", updated_at="2026-02-02 10:00:00+02:00")
    account.put("segments", "H", name="x", is_active=False, updated=datetime(2026, 1, 1, tzinfo=UTC))
    account.put("segments", "I", name="y", is_starred=True, updated=datetime(2026, 1, 2, tzinfo=UTC))
    with SandboxServer(account, rate_scale=0) as server, client_of(server) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "filter", "found"),
    [
        ("flows", "equals(name,'Alpha one')", ["A"]),
        ("flows", 'equals(name,"Beta, it\'s")', ["B"]),
        ("flows", "equals(name,'Beta, it\\'s')", ["B"]),
        ("flows", "contains(name,'ET')", ["B"]),
        ("flows", "starts-with(name,'alpha')", ["A"]),
        ("flows", "ends-with(name,'one')", ["A"]),
        ("flows", "equals(status,'live')", ["A"]),
        ("flows", 'any(id,["A","C","Z"])', ["A", "C"]),
        ("flows", "any(id,['A', 'C'])", ["A", "C"]),
        ("flows", "equals(trigger_type,'Metric')", ["A", "B", "C"]),
        ("flows", "equals(archived,false)", ["A", "B", "C", "D"]),
        ("flows", "equals(archived,true)", []),
        ("flows", "equals(updated,2026-01-01T00:00:01Z)", ["B"]),
        ("flows", "greater-or-equal(updated,2026-01-01T00:00:01Z)", ["B", "C"]),
        ("flows", "greater-than(updated,2026-01-01T00:00:01Z)", ["C"]),
        ("flows", "less-or-equal(created,2026-01-01T00:00:01Z)", ["A", "B"]),
        ("flows", "less-than(created,2026-01-01T00:00:01Z)", ["A"]),
        ("flows", "less-than(created,2026-01-01T01:00:01+01:00)", ["A"]),
        ("flows", "less-than(created,2026-01-01T00:00:00.500Z)", ["A"]),
        (
            "flows",
            "and(greater-or-equal(updated,2026-01-01T00:00:01Z),less-than(updated,2026-01-01T00:00:02Z))",
            ["B"],
        ),
        ("flows", "equals(status,'live'),any(id,['A','B'])", ["A"]),
        ("flows", "and(equals(status,'live'),and(equals(archived,false),any(id,['A','B'])))", ["A"]),
        ("campaigns", "equals(messages.channel,'email')", ["E"]),
        ("campaigns", "equals(messages.channel,'sms'),greater-than(scheduled_at,2025-01-01T00:00:00Z)", ["S"]),
        ("campaigns", "and(equals(messages.channel,'email'),greater-than(updated_at,2026-01-01T00:00:00.2Z))", ["E"]),
        ("campaigns", "and(equals(messages.channel,'email'),less-than(updated_at,2026-01-01T00:00:00.2Z))", []),
        ("campaigns", "equals(messages.channel,'email'),any(status,['Sent','Draft'])", ["E"]),
        ("campaigns", "equals(messages.channel,'sms'),equals(status,'Sent')", []),
        ("forms", "equals(ab_test,true)", ["F"]),
        ("forms", "any(name,['one','two'])", ["F", "G"]),
        ("forms", "equals(id,'G')", ["G"]),
        ("forms", "greater-or-equal(updated_at,2026-02-02T08:00:00Z)", ["G"]),
        ("segments", "greater-than(updated,2026-01-01T00:00:00Z)", ["I"]),
        ("segments", "equals(name,['x'])", ["H"]),
        ("segments", "equals(is_active,true)", ["I"]),
        ("segments", "any(is_active,[true,false])", ["H", "I"]),
        ("segments", "equals(is_starred,true)", ["I"]),
    ],
)
def test_a_filter_finds_what_it_says(shop: httpx.Client, path: str, filter: str, found: list[str]) -> None:
    assert ids(shop.get(f"/api/{path}", params={"filter": filter})) == found


@pytest.mark.parametrize(
    ("path", "filter"),
    [
        ("flows", ""),
        ("flows", "nonsense"),
        ("flows", "equals(name,'a'"),
        ("flows", "equals(name,'a'))"),
        ("flows", "equals(name,'a'),"),
        ("flows", "equals(name,a)"),
        ("flows", "equals(name)"),
        ("flows", "and()"),
        ("flows", "or(equals(name,'a'),equals(name,'b'))"),
        ("flows", "not(equals(name,'a'))"),
        ("flows", "any(id,[])"),
        ("flows", "any(id,'A')"),
        ("flows", "equals(id,'A')"),
        ("flows", "equals(nothing,'a')"),
        ("flows", "equals(updated_at,2026-01-01T00:00:00Z)"),
        ("flows", "equals(archived,'true')"),
        ("flows", "equals(archived,yes)"),
        ("flows", "equals(archived,True)"),
        ("flows", "equals(trigger_type,'metric')"),
        ("flows", "greater-than(name,'a')"),
        ("flows", "greater-than(updated,'2026-01-01T00:00:00Z')"),
        ("flows", "greater-than(updated,2026-01-01)"),
        ("flows", "greater-than(updated,2026-01-01T00:00:00)"),
        ("flows", "greater-than(updated,2026-01-01T00:00:00 00:00)"),
        ("flows", "greater-than(updated,2026-02-30T00:00:00Z)"),
        ("campaigns", "equals(archived,true)"),
        ("campaigns", "equals(messages.channel,'push')"),
        ("campaigns", "any(messages.channel,['email','sms'])"),
        ("campaigns", "equals(messages.channel,'email'),equals(updated_at,2026-01-01T00:00:00Z)"),
        ("campaigns", "equals(messages.channel,'email'),equals(name,'Mail')"),
        ("forms", "equals(archived,true)"),
        ("forms", "equals(updated_at,2026-01-01T00:00:00Z)"),
        ("segments", "equals(name,'x')"),
        ("segments", "greater-or-equal(updated,2026-01-01T00:00:00Z)"),
        ("segments", "less-than(updated,2026-01-01T00:00:00Z)"),
    ],
)
def test_what_the_table_does_not_allow_is_refused(shop: httpx.Client, path: str, filter: str) -> None:
    error = error_of(shop.get(f"/api/{path}", params={"filter": filter}), 400)
    assert error["code"] == "invalid"
    assert error["source"] == {"parameter": "filter"}


def test_campaigns_without_a_channel_are_refused(shop: httpx.Client) -> None:
    assert "messages.channel" in error_of(shop.get("/api/campaigns"), 400)["detail"]


def test_a_raw_plus_in_the_url_spoils_the_offset(shop: httpx.Client) -> None:
    filter = "greater-than(updated,2026-01-01T00:00:01+00:00)"
    assert error_of(shop.get(f"/api/flows?filter={filter}"), 400)["source"] == {"parameter": "filter"}
    assert ids(shop.get(f"/api/flows?filter={quote(filter)}")) == ["C"]


@pytest.mark.parametrize(
    ("bound", "status"),
    [
        ("2026-03-10T14:59:55Z", 200),
        ("2026-03-10T14:59:56Z", 400),
        ("2026-03-10T15:00:00Z", 400),
        ("2026-03-10T15:00:01Z", 400),
        ("2031-01-01T00:00:00Z", 400),
    ],
)
@pytest.mark.parametrize("operator", ["greater-than", "less-than"])
def test_a_bound_close_to_now_or_ahead_is_refused(shop: httpx.Client, operator: str, bound: str, status: int) -> None:
    answer = shop.get("/api/flows", params={"filter": f"{operator}(updated,{bound})"})
    assert answer.status_code == status


def test_a_lower_bound_above_the_upper_is_refused(shop: httpx.Client) -> None:
    filter = "greater-than(updated,2026-01-02T00:00:00Z),less-than(updated,2026-01-01T00:00:00Z)"
    assert "upper bound" in error_of(shop.get("/api/flows", params={"filter": filter}), 400)["detail"]


@pytest.mark.parametrize("operator", ["greater-or-equal", "greater-than", "less-or-equal", "less-than", "equals"])
def test_a_null_time_matches_no_time_filter(shop: httpx.Client, operator: str) -> None:
    answer = shop.get("/api/flows", params={"filter": f"{operator}(updated,2026-01-01T00:00:01Z)"})
    assert "D" not in ids(answer)


def test_greater_than_lets_some_rows_equal_to_the_bound_through(account: SandboxAccount, client: httpx.Client) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(20):
        account.put("segments", f"S{number:02}", updated=moment)
    params = {"filter": "greater-than(updated,2026-01-01T00:00:00Z)"}
    through = ids(client.get("/api/segments", params=params))
    assert 0 < len(through) < 20
    account.gt_includes_bound = False
    assert ids(client.get("/api/segments", params=params)) == []


def test_an_unreadable_time_matches_no_time_filter_and_breaks_nothing(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.put("flows", "F", updated="yesterday")
    params = {"filter": "greater-than(updated,2020-01-01T00:00:00Z)", "sort": "updated"}
    assert ids(client.get("/api/flows", params=params)) == []
    assert ids(client.get("/api/flows", params={"sort": "updated"})) == ["F"]


def test_the_grammar_keeps_quotes_and_lists_apart() -> None:
    assert parse_filter('any(a.b,[\'x,y\',"z\\""]),equals(c,true)') == [
        Condition("any", "a.b", (Word("x,y", True), Word('z"', True)), True),
        Condition("equals", "c", (Word("true", False),), False),
    ]


@pytest.mark.parametrize("text", ["equals(a,['x','y'", "equals(a,['x' 'y'])", "equals(a,'x)", "(a,b)", "equals (a,b)"])
def test_broken_text_is_no_filter(text: str) -> None:
    with pytest.raises(MalformedFilterError):
        parse_filter(text)
