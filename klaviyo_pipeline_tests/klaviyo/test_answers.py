"""The error that each response becomes, and the account that a success becomes."""

import json
import traceback

import pytest

from klaviyo_pipeline.klaviyo import errors
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.klaviyo.reports import FLOW_SERIES
from klaviyo_pipeline.sandbox.api_errors import OTHER_403S, ApiError

from .conftest import API_KEY, Bench, failing
from .resources import flow
from .scripted_server import Scripted, failed, html, ok, refused


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.BadKey),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (405, errors.BadRequest),
        (409, errors.BadRequest),
        (410, errors.RevisionRetired),
        (418, errors.BadRequest),
        (422, errors.BadRequest),
    ],
)
def test_a_permanent_error_is_raised_at_once_as_its_own_class(
    bench: Bench, status: int, kind: type[KlaviyoError]
) -> None:
    bench.server.will(refused(status, "No.", x_klaviyo_req_id="req-header"))
    error = failing(bench, kind)
    assert len(bench.server.requested) == 1
    assert (error.status, error.request_id, error.endpoint) == (status, "req-header", "get_accounts")


def test_an_error_is_one_line_with_the_request_id_and_the_remedy(bench: Bench) -> None:
    bench.server.will(refused(401, "Incorrect\n\tkey."))
    line = str(failing(bench, errors.BadKey))
    assert line == (
        "Klaviyo does not accept the API key: Incorrect key. Check KLAVIYO_API_KEY. "
        "(get_accounts, HTTP 401, Klaviyo request req-body)"
    )


def test_a_long_detail_does_not_push_the_remedy_out(bench: Bench) -> None:
    bench.server.will(refused(401, "very " * 1000))
    line = str(failing(bench, errors.BadKey))
    assert "Check KLAVIYO_API_KEY." in line
    assert len(line) < 500


def test_an_error_contains_no_characters_that_terminals_or_postgres_reject(bench: Bench) -> None:
    bench.server.will(Scripted(401, b'{"errors": [{"detail": "odd \\ud800 \\u0000"}]}'))
    line = str(failing(bench, errors.BadKey))
    assert "odd ␛uD800 ␛u0000" in line
    line.encode()


def test_a_bad_request_has_the_detail_and_the_pointer(bench: Bench) -> None:
    error = {"id": "r", "code": "invalid", "detail": "Bad filter.", "source": {"parameter": "filter"}}
    bench.server.will(Scripted(400, _json({"errors": [error]})))
    raised = failing(bench, errors.BadRequest)
    assert isinstance(raised, errors.BadRequest)
    assert (raised.detail, raised.pointer) == ("Bad filter.", "filter")
    assert "filter" in str(raised)


def test_a_missing_scope_error_has_the_scopes_in_the_response(bench: Bench) -> None:
    bench.server.will(refused(403, "You need lists:read and tags:read."))
    raised = failing(bench, errors.MissingScope)
    assert isinstance(raised, errors.MissingScope)
    assert raised.scopes == ("lists:read", "tags:read")
    assert "lists:read, tags:read" in str(raised)


@pytest.mark.parametrize("error", OTHER_403S.values(), ids=OTHER_403S)
def test_a_403_without_a_scope_quotes_klaviyo_and_the_request_id(bench: Bench, error: ApiError) -> None:
    bench.server.will(Scripted(403, _json(error.document("req-7"))))
    line = str(failing(bench, errors.Forbidden))
    assert len(bench.server.requested) == 1
    assert line == (
        f"Klaviyo denied access: {error.detail.rstrip('.')}. Check the scopes of the key and the plan of the account. "
        "(get_accounts, HTTP 403, Klaviyo request req-7)"
    )


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(401, "authentication_failed", errors.BadKey), (500, "error", errors.Unavailable)]
)
def test_the_status_decides_the_error_and_not_the_code(
    bench: Bench, status: int, code: str, kind: type[KlaviyoError]
) -> None:
    bench.server.will(*[refused(status, "Something.", code=code)] * 5)
    assert "Something" in str(failing(bench, kind))


def test_all_errors_of_a_response_are_in_the_message(bench: Bench) -> None:
    first = {"id": "r", "code": "invalid", "detail": "Bad filter.", "source": {"parameter": "filter"}}
    second = {"id": "r", "code": "invalid", "title": "Bad sort.", "source": {"parameter": "sort"}}
    bench.server.will(failed(400, first, second))
    assert str(failing(bench, errors.BadRequest)) == (
        "Klaviyo rejected the request: Bad filter; Bad sort. Check the settings that the message mentions; if it "
        "mentions none, report this line. The error points to filter, sort. (get_accounts, HTTP 400, Klaviyo request r)"
    )


def test_a_message_counts_the_errors_after_the_first_ten(bench: Bench) -> None:
    bench.server.will(failed(401, *({"detail": f"No {number}."} for number in range(100))))
    line = str(failing(bench, errors.BadKey))
    assert "No 9; and 90 more. Check KLAVIYO_API_KEY." in line


def test_a_scope_is_found_in_the_second_error(bench: Bench) -> None:
    bench.server.will(failed(403, {"detail": "Forbidden."}, {"detail": "tags:read is missing."}))
    raised = failing(bench, errors.MissingScope)
    assert isinstance(raised, errors.MissingScope)
    assert raised.scopes == ("tags:read",)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (html(404), "The requested address does not exist. Check the id and KLAVIYO_API_URL. (get_accounts, HTTP 404)"),
        (
            Scripted(404, b"default backend - 404\n"),
            "The requested address does not exist: default backend - 404. Check the id and KLAVIYO_API_URL. "
            "(get_accounts, HTTP 404)",
        ),
        (
            Scripted(503, b"no healthy upstream"),
            "Klaviyo's server failed to process the request: no healthy upstream. Run again later. "
            "(get_accounts, HTTP 503)",
        ),
        (
            html(200),
            "The response is not a valid API response: it is HTML (JSONDecodeError). Check KLAVIYO_API_URL, then run "
            "again. (get_accounts, HTTP 200)",
        ),
    ],
    ids=["a page", "plain text", "envoy", "a success"],
)
def test_a_response_from_a_wrong_address_is_a_one_line_error(bench: Bench, answer: Scripted, line: str) -> None:
    bench.server.will(*[answer] * 5)
    assert str(failing(bench, KlaviyoError)) == line


def test_a_410_means_that_the_revision_is_retired(bench: Bench) -> None:
    bench.server.will(Scripted(410, b'{"message": "v1 is gone"}'))
    assert "v1 is gone" in str(failing(bench, errors.RevisionRetired))


OTHER = {"x_klaviyo_api_revision": "2027-01-15"}


@pytest.mark.parametrize(
    "answer",
    [ok({"data": []}, **OTHER), *(refused(status, **OTHER) for status in (400, 403, 404, 422))],
    ids=lambda answer: answer.status,
)
def test_an_answer_of_another_revision_is_a_one_line_error_at_once(bench: Bench, answer: Scripted) -> None:
    bench.server.will(answer)
    line = str(failing(bench, errors.OtherRevision))
    assert "requested 2026-10-15, answered with 2027-01-15" in line
    assert "KLAVIYO_REVISION" in line
    assert len(bench.server.requested) == 1


def test_a_report_of_another_revision_is_an_error_too(bench: Bench) -> None:
    bench.server.will(ok({"data": {"attributes": {"results": []}}}, **OTHER))
    with pytest.raises(errors.OtherRevision):
        list(bench.client.report_pages(FLOW_SERIES, {"data": {}}))


def test_an_error_of_another_revision_that_is_retried_is_retried(bench: Bench) -> None:
    bench.server.will(refused(503, **OTHER), ok({"data": [account()]}, x_klaviyo_api_revision="2026-10-15"))
    assert bench.client.account().id == "AB12CD"


def test_an_ineligible_conversion_metric_has_its_own_error(bench: Bench) -> None:
    detail = "Passed in conversion metric does not support querying for values data"
    bench.server.will(refused(400, detail))
    assert "KLAVIYO_CONVERSION_METRIC_ID" in str(failing(bench, errors.ConversionMetricIneligible))


def invalid(pointer: str, detail: str) -> Scripted:
    source = {"pointer": pointer}
    error = {
        "id": "e1",
        "status": 400,
        "code": "invalid",
        "title": "Invalid input.",
        "detail": detail,
        "source": source,
    }
    return Scripted(400, json.dumps({"errors": [error]}).encode())


@pytest.mark.parametrize(
    ("pointer", "detail"),
    [
        ("/data/attributes/conversion_metric_id", "Other words."),
        ("conversion_metric_id", "Other words."),
        ("/data", "Passed in conversion metric does not support querying for values data"),
        ("/data/attributes/", "Passed in conversion metric does not support querying for values data"),
    ],
)
def test_an_ineligible_conversion_metric_is_recognized_by_the_pointer_or_the_text(
    bench: Bench, pointer: str, detail: str
) -> None:
    bench.server.will(invalid(pointer, detail))
    failing(bench, errors.ConversionMetricIneligible)


def test_other_errors_are_not_mistaken_for_an_ineligible_conversion_metric(bench: Bench) -> None:
    bench.server.will(invalid("/data/attributes/timeframe", "The conversion metric allows no such timeframe."))
    assert type(failing(bench, errors.BadRequest)) is errors.BadRequest


@pytest.mark.parametrize(
    "answer",
    [
        html(403),
        refused(403, "Blocked.", cf_mitigated="challenge"),
        refused(408),
        refused(500),
        refused(502),
        html(503),
        refused(504),
        *(html(status) for status in range(520, 525)),
        Scripted(hang_up=True),
        Scripted(200, b'{"data": [', cut=True),
    ],
    ids=repr,
)
def test_a_temporary_failure_is_retried(bench: Bench, answer: Scripted) -> None:
    bench.server.will(answer, ok({"data": [account()]}))
    assert bench.client.account().id == "AB12CD"
    assert len(bench.server.requested) == 2


def test_a_block_by_the_edge_is_unavailable_after_all_attempts(bench: Bench) -> None:
    bench.server.will(*[html(403)] * 5)
    assert "edge" in str(failing(bench, errors.Unavailable))
    assert len(bench.server.requested) == 5


def test_no_exception_log_or_repr_contains_the_key(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    echo = f"The key {API_KEY} is wrong."
    bench.server.will(refused(401, echo), html(302, location="/api/x"), refused(400, echo))
    output = [repr(bench.client), repr(bench.client.__dict__)]
    for _ in range(3):
        with pytest.raises(KlaviyoError) as raised:
            bench.client.account()
        output += traceback.format_exception(raised.value)
        output += [repr(raised.value), str(raised.value.__dict__)]
    output += [record.getMessage() for record in caplog.records] + [repr(bench.records)]
    assert all(API_KEY in requested.headers["authorization"] for requested in bench.server.requested)
    assert API_KEY not in "\n".join(output)
    assert caplog.records


def test_a_key_with_json_escapes_is_redacted(bench: Bench) -> None:
    written = "".join(f"\\u{ord(letter):04x}" for letter in API_KEY)
    bench.server.will(Scripted(401, f'{{"errors": [{{"detail": "The key {written} is wrong."}}]}}'.encode()))
    line = str(failing(bench, errors.BadKey))
    assert "[API key] is wrong" in line
    assert API_KEY not in line


def test_the_account_is_read_from_its_resource(bench: Bench) -> None:
    bench.server.will(ok({"data": [account()]}, x_klaviyo_api_retirement_date="2028-07-15"))
    read = bench.client.account()
    assert (read.id, read.timezone, read.currency) == ("AB12CD", "Europe/Berlin", "EUR")
    assert (read.organization, read.test_account) == ("Shop", False)
    assert bench.client.retirement_date == "2028-07-15"
    requested = bench.server.requested[0]
    assert (requested.method, requested.path) == ("GET", "/api/accounts")
    assert requested.headers["authorization"] == f"Klaviyo-API-Key {API_KEY}"
    assert requested.headers["revision"] == "2026-10-15"
    assert requested.headers["x-klaviyo-revision-fall-forward-opt-out"] == "1"
    assert requested.headers["accept"] == "application/vnd.api+json"


@pytest.mark.parametrize("data", [[], [{"id": "A"}], [flow()]])
def test_an_account_without_a_time_zone_is_malformed(bench: Bench, data: list[object]) -> None:
    bench.server.will(ok({"data": data}, x_klaviyo_req_id="req-7"))
    assert failing(bench, errors.MalformedAnswer).request_id == "req-7"


def account() -> dict[str, object]:
    attributes = {
        "timezone": "Europe/Berlin",
        "preferred_currency": "EUR",
        "test_account": False,
        "contact_information": {"organization_name": "Shop"},
    }
    return {"type": "account", "id": "AB12CD", "attributes": attributes}


def _json(document: object) -> bytes:
    return ok(document).body
