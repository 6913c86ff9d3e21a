from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from klaviyo_pipeline.sandbox.app import create_app
from klaviyo_pipeline.sandbox.sandbox_account import SANDBOX_KEY, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.sandbox.conftest import HEADERS, client_of, error_of


def bare(server: SandboxServer, path: str = "/api/flows", **headers: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers)


def test_a_wrong_key_fails_authentication(server: SandboxServer) -> None:
    answer = bare(server, Authorization="Klaviyo-API-Key pk_wrong", revision="2026-07-15")
    assert error_of(answer, 401)["code"] == "authentication_failed"


@pytest.mark.parametrize("authorization", [f"Bearer {SANDBOX_KEY}", SANDBOX_KEY, ""])
def test_what_is_no_key_is_not_authenticated(server: SandboxServer, authorization: str) -> None:
    answer = bare(server, Authorization=authorization, revision="2026-07-15")
    assert error_of(answer, 401)["code"] == "not_authenticated"


def test_a_missing_key_is_not_authenticated(server: SandboxServer) -> None:
    assert error_of(bare(server, revision="2026-07-15"), 401)["code"] == "not_authenticated"


def test_a_key_without_the_scope_is_forbidden_and_names_the_scope(
    account: SandboxAccount, client: httpx.Client
) -> None:
    account.api_keys[SANDBOX_KEY].remove("flows:read")
    assert "flows:read" in error_of(client.get("/api/flows"), 403)["detail"]
    assert client.get("/api/forms").status_code == 200


@pytest.mark.parametrize("revision", ["", "2026", "latest", "2026-13-01", "2027-01-15"])
def test_a_malformed_or_unknown_revision_is_refused(server: SandboxServer, revision: str) -> None:
    answer = bare(server, Authorization=HEADERS["Authorization"], revision=revision)
    assert error_of(answer, 400)["source"] == {"parameter": "revision"}


def test_the_revision_header_is_required(server: SandboxServer) -> None:
    answer = bare(server, Authorization=HEADERS["Authorization"])
    assert error_of(answer, 400)["source"] == {"parameter": "revision"}


OPT_OUT = {"X-Klaviyo-Revision-Fall-Forward-Opt-Out": "1"}


@pytest.mark.parametrize("revision", ["2024-03-11", "2026-04-15", "2026-10-15.pre", "2026-10-16"])
def test_a_revision_that_is_neither_served_nor_two_years_old_is_refused(client: httpx.Client, revision: str) -> None:
    assert error_of(client.get("/api/flows", headers={"revision": revision}), 400)["source"]["parameter"] == "revision"


def test_a_revision_of_two_years_ago_falls_forward_to_the_oldest_that_is_served(client: httpx.Client) -> None:
    answer = client.get("/api/flows", headers={"revision": "2024-03-10"})
    assert answer.status_code == 200
    assert answer.headers["x-klaviyo-api-revision"] == "2026-07-15"


def test_a_retired_revision_answers_in_the_next_one_s_shape(account: SandboxAccount, client: httpx.Client) -> None:
    account.put("campaigns", "C", name="Sale")
    account.retired_revisions = {"2026-07-15"}
    answer = client.get("/api/campaigns/C")
    assert answer.headers["x-klaviyo-api-revision"] == "2026-10-15"
    assert answer.json()["data"]["attributes"]["definition"]["name"] == "Sale"


def test_a_retired_revision_is_gone_for_who_opts_out(account: SandboxAccount, client: httpx.Client) -> None:
    account.retired_revisions = {"2026-07-15"}
    for revision in ("2024-03-10", "2026-07-15"):
        gone = client.get("/api/flows", headers={"revision": revision, **OPT_OUT})
        assert gone.status_code == 410
        assert gone.json().keys() == {"message"}
    assert client.get("/api/flows", headers={"revision": "2026-10-15", **OPT_OUT}).status_code == 200


def test_nothing_falls_forward_where_the_account_says_so(account: SandboxAccount, client: httpx.Client) -> None:
    account.falls_forward = False
    assert client.get("/api/flows", headers={"revision": "2024-03-10"}).status_code == 410


def test_the_newest_revision_never_retires() -> None:
    late = SandboxAccount(clock=lambda: datetime(2031, 1, 1, tzinfo=UTC))
    with SandboxServer(late, rate_scale=0) as server, client_of(server) as client:
        assert client.get("/api/flows").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/lists", "/api/v2/list/x/members", "/api/v1"])
def test_the_old_versions_are_gone(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 410
    assert answer.json().keys() == {"message"}


@pytest.mark.parametrize("path", ["/api/nothing", "/", "/api", "/api/flows/a/b"])
def test_an_unknown_path_is_not_found(client: httpx.Client, path: str) -> None:
    error = error_of(client.get(path), 404)
    assert (error["code"], error["detail"]) == ("not_found", f"The path {path} could not be found")
    assert "source" not in error


@pytest.mark.parametrize(
    "path", ["flows", "campaigns", "forms", "segments", "metrics", "mapped-metrics", "accounts", "tags"]
)
def test_an_unknown_id_is_not_found(client: httpx.Client, path: str) -> None:
    error = error_of(client.get(f"/api/{path}/nobody"), 404)
    assert (error["code"], error["source"]) == ("not_found", {"pointer": "/data/"})
    assert "nobody" in error["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/flows"), ("DELETE", "/api/flows/X"), ("GET", "/api/flow-series-reports")]
)
def test_another_method_is_not_allowed(client: httpx.Client, method: str, path: str) -> None:
    assert error_of(client.request(method, path), 405)["code"] == "method_not_allowed"


@pytest.mark.parametrize(("revision", "end"), [("2026-07-15", "2028-07-15"), ("2026-10-15", "2028-10-15")])
def test_every_answer_names_request_and_revision(client: httpx.Client, revision: str, end: str) -> None:
    client.headers["revision"] = revision
    answers = [client.get("/api/flows"), client.get("/api/flows/X"), client.get("/api/flows?x=1")]
    for answer in answers:
        assert answer.headers["x-klaviyo-api-revision"] == revision
        assert answer.headers["x-klaviyo-api-retirement-date"] == end
        assert answer.headers["content-type"] == "application/vnd.api+json"
    assert len({answer.headers["x-klaviyo-req-id"] for answer in answers}) == 3


def test_a_trailing_slash_makes_no_difference(account: SandboxAccount, client: httpx.Client) -> None:
    account.put("flows", "F")
    assert client.get("/api/flows/").json()["data"] == client.get("/api/flows").json()["data"]
    assert client.get("/api/flows/F/").json()["data"] == client.get("/api/flows/F").json()["data"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/api/flows?limit=5", "limit"),
        ("/api/flows?page_cursor=x", "page_cursor"),
        ("/api/metrics?page[size]=5", "page[size]"),
        ("/api/accounts?filter=equals(id,'a')", "filter"),
        ("/api/forms?include=tags", "include"),
        ("/api/flows?fields[campaign]=name", "fields[campaign]"),
        ("/api/flows?fields[flow]=nonsense", "fields[flow]"),
        ("/api/flows?include=nonsense", "include"),
        ("/api/flows?sort=nonsense", "sort"),
        ("/api/forms?sort=name", "sort"),
        ("/api/flows?page[size]=0", "page[size]"),
        ("/api/flows?page[size]=51", "page[size]"),
        ("/api/segments?page[size]=11", "page[size]"),
        ("/api/flows?page[size]=ten", "page[size]"),
        ("/api/flows?additional-fields[flow]=definition", "additional-fields[flow]"),
        ("/api/flows?sort=name&sort=id", "sort"),
    ],
)
def test_a_parameter_the_endpoint_does_not_take_is_refused_by_name(
    client: httpx.Client, path: str, parameter: str
) -> None:
    assert error_of(client.get(path), 400)["source"] == {"parameter": parameter}


def test_accounts_of_one_server_are_distinguished_by_their_keys() -> None:
    first = SandboxAccount(id="ONE")
    second = SandboxAccount(id="TWO", api_keys={"pk_two": {"accounts:read", "flows:read"}})
    second.put("flows", "F")
    with SandboxServer([first, second], rate_scale=0) as server:
        for key, id, flows in ((SANDBOX_KEY, "ONE", 0), ("pk_two", "TWO", 1)):
            with client_of(server, Authorization=f"Klaviyo-API-Key {key}") as client:
                assert client.get("/api/accounts").json()["data"][0]["id"] == id
                assert len(client.get("/api/flows").json()["data"]) == flows


def test_two_accounts_with_one_key_cannot_be_served_together() -> None:
    with pytest.raises(ValueError, match="share a key"):
        create_app([SandboxAccount(), SandboxAccount()])


def test_no_key_stands_in_the_log_or_in_the_repr(account: SandboxAccount, server: SandboxServer) -> None:
    with client_of(server) as client:
        client.get("/api/flows")
    assert SANDBOX_KEY not in repr(server.requests)
    assert SANDBOX_KEY not in repr(account)
