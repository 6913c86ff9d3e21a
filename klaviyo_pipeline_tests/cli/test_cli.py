"""The command line: a sync into Postgres, and the set-up of its schema."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from klaviyo_pipeline.cli import query_commands
from klaviyo_pipeline.sandbox.faults import Fault, path_starts
from klaviyo_pipeline_tests.cli.shell import DAYS, ENTITIES, REFUSED, Here, Outcome, Shell
from klaviyo_pipeline_tests.support import SLUG, key_of, truth, utc

pytestmark = pytest.mark.slow

STOPS_WITHIN_SECONDS = 15


# A sync into Postgres.


def test_a_full_sync_stores_the_account_in_the_tables(first_sync: tuple[Shell, Outcome]) -> None:
    shell, outcome = first_sync
    assert (outcome.code, outcome.err) == (0, "")
    for entity in ENTITIES:
        expected = {id: values[:2] for id, values in truth(shell.shop, entity).items()}
        found = shell.rows(f"SELECT id, name, updated_at FROM {entity} WHERE deleted_at IS NULL")
        assert {id: (name, updated) for id, name, updated in found} == expected
    [(reported, summed)] = shell.rows(
        "SELECT (SELECT sum(conversion_value) FROM flow_report), (SELECT sum(conversion_value) FROM flow_metrics)"
    )
    assert reported == summed > 0


def test_a_sync_prints_the_outcome_of_each_asset(first_sync: tuple[Shell, Outcome]) -> None:
    _, outcome = first_sync
    table = outcome.out.rpartition("asset  ")[2]
    for name in (*ENTITIES, "flows_census", "flow_report", "flow_metrics"):
        assert any(line.split()[:2] == [name, "done"] for line in table.splitlines()), name


def test_every_run_of_a_sync_is_recorded_in_the_storage_of_the_ui(synced_shell: Shell) -> None:
    runs = synced_shell.rows("SELECT status, count(*) FROM public.runs GROUP BY status")
    [(assets,)] = synced_shell.rows("SELECT count(DISTINCT run_id) FROM sync_windows")
    [(censuses,)] = synced_shell.rows("SELECT count(DISTINCT run_id) FROM census_runs")
    assert runs == [("SUCCESS", assets + censuses)]


def test_no_secret_is_stored_in_the_database(synced_shell: Shell) -> None:
    kept = str(synced_shell.rows("SELECT event FROM public.event_logs UNION ALL SELECT run_body FROM public.runs"))
    assert len(kept) > 10_000
    synced_shell.check_secrets(kept)


# Set-up.


def test_a_second_migrate_reports_that_the_schema_is_up_to_date(here: Here) -> None:
    first, second = here.run("migrate"), here.run("migrate")
    assert (first.code, second.code) == (0, 0)
    assert first.out.count("applied ") >= 3
    assert second.out == f"schema {SLUG} is up to date\n"


def test_a_changed_time_zone_is_refused_until_the_windows_are_reset(prepared_here: Here, prepared: Shell) -> None:
    assert prepared_here.run("sync", "forms", *DAYS).code == 0
    refused = prepared_here.run("sync", "forms", *DAYS, KLAVIYO_TIMEZONE="Europe/Paris")
    assert refused.code == 1
    assert "set KLAVIYO_TIMEZONE=UTC" in refused.err
    assert "klaviyo-pipeline reset-windows" in refused.err
    assert prepared_here.run("reset-windows", "--yes", KLAVIYO_TIMEZONE="Europe/Paris").code == 0
    assert prepared.rows("SELECT (SELECT count(*) FROM sync_windows), (SELECT count(*) FROM forms)") == [(0, 1)]
    assert prepared_here.run("sync", "forms", *DAYS, KLAVIYO_TIMEZONE="Europe/Paris").code == 0
    assert prepared.rows("SELECT count(*), count(DISTINCT window_start) FROM sync_windows") == [(14, 14)]


# Failures and interruptions.


def test_a_failing_asset_does_not_stop_the_others_and_the_exit_code_is_1(prepared: Shell) -> None:
    prepared.shop.api_keys[key_of(prepared.shop)] -= {"forms:read"}
    outcome = prepared.run("sync", "flows", "forms", "segments", *DAYS)
    assert outcome.code == 1
    assert outcome.err.startswith("Error: forms: ")
    assert outcome.err.count("\n") == 1
    assert "forms:read" in outcome.err
    statuses = prepared.rows("SELECT entity, status, count(*) FROM sync_windows GROUP BY 1, 2 ORDER BY 1")
    assert statuses == [("flows", "synced", 14), ("forms", "failed", 14), ("segments", "synced", 14)]
    assert prepared.rows("SELECT status, count(*) FROM public.runs GROUP BY 1 ORDER BY 1") == [
        ("FAILURE", 1),
        ("SUCCESS", 2),
    ]


@pytest.mark.parametrize("described", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_sync_ends_within_seconds_and_the_next_one_resumes_it(
    described: signal.Signals, prepared: Shell, prepared_here: Here
) -> None:
    assert prepared_here.run("sync", "forms", *DAYS).code == 0
    prepared.server.faults.add(path_starts("/api/flows"), Fault(delay=25.0), times=10)
    requested = prepared.server.count()
    process = prepared.start("sync", "flows", "forms", *DAYS, "--force")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _forms_came_again(prepared):
        time.sleep(0.1)
    assert prepared.server.count() > requested
    process.send_signal(described)
    began = time.monotonic()
    outcome = prepared.end(process)
    assert time.monotonic() - began < STOPS_WITHIN_SECONDS
    assert outcome.code == 130
    assert "Traceback" not in outcome.out + outcome.err
    assert outcome.err.splitlines()[-1].startswith("Error: Interrupted.")
    ledger = dict(prepared.rows("SELECT entity, count(*) FROM sync_windows WHERE status = 'synced' GROUP BY 1"))
    assert ledger == {"forms": 14}
    prepared.server.faults.clear()
    assert prepared_here.run("sync", "flows", *DAYS).code == 0
    assert prepared.rows("SELECT id FROM flows") == [("f1",)]
    assert prepared.rows("SELECT count(*) FROM public.runs WHERE status IN ('STARTED', 'STARTING')") == [(0,)]


def _forms_came_again(shell: Shell) -> bool:
    return shell.rows("SELECT min(attempts) FROM sync_windows WHERE entity = 'forms'") == [(2,)]


# Commands that read from Postgres.


def test_status_as_json_is_one_object_for_each_asset_with_values_as_numbers(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("status", "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    by_asset = {row["entity"]: row for row in json.loads(outcome.out)}
    assert {*ENTITIES, "flow_report", "flow_metrics"} <= by_asset.keys()
    flows = by_asset["flows"]
    assert flows["windows_synced"] == 14
    assert (flows["windows_failed"], flows["last_error"]) == (0, None)
    assert flows["row_count"] == len(truth(synced_shell.shop, "flows"))
    assert datetime.fromisoformat(flows["synced_through"]) == utc("2025-03-15T04:00:00")


def test_status_as_a_table_has_a_line_for_each_asset(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("status")
    assert outcome.code == 0
    assert {*ENTITIES, "flow_report", "flow_metrics"} <= {line.split()[0] for line in outcome.out.splitlines() if line}


def test_status_reports_the_bytes_on_disk_of_each_table_and_of_its_history(synced_shell: Shell, reader: Here) -> None:
    by_asset = {row["entity"]: row for row in json.loads(reader.run("status", "--format", "json").out)}
    sizes = dict(
        synced_shell.rows(
            "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        )
    )
    for name, row in by_asset.items():
        assert row["bytes"] == sizes[name] > 0
        assert row["history_bytes"] == sizes.get(f"{name}_superseded")
    assert by_asset["flow_metrics"]["history_bytes"] is None


def test_status_with_disk_lists_every_table_and_dagsters_tables(synced_shell: Shell, reader: Here) -> None:
    rows = json.loads(reader.run("status", "--disk", "--format", "json").out)
    ours, dagsters = ({row["table"]: row["bytes"] for row in rows if row["of"] == of} for of in (SLUG, "dagster"))
    assert {"flows", "flows_superseded", "sync_windows", "schema_migrations"} <= ours.keys()
    assert {"event_logs", "runs", "job_ticks"} <= dagsters.keys()
    assert all(isinstance(row["bytes"], int) for row in rows)
    described = reader.run("status").out.splitlines()[-1]
    assert described.startswith("On disk: ")
    assert f"in schema {SLUG}" in described


def test_status_works_while_dagsters_storage_is_unreachable(reader: Here) -> None:
    outcome = reader.run("status", KLAVIYO_DAGSTER_DATABASE_URL=REFUSED)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1].endswith("Dagster's tables do not exist or cannot be read.")


def test_metrics_as_json_is_one_object_for_each_flow_with_values_as_numbers(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("metrics", *DAYS, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    expected = synced_shell.rows(
        "SELECT flow_id, flow_name, recipients, conversion_value, revenue_per_recipient "
        "FROM flow_metrics_between('2025-03-01', '2025-03-14') ORDER BY conversion_value DESC, flow_id"
    )
    assert [row["flow_id"] for row in rows] == [row[0] for row in expected]
    for row, (_, name, *figures) in zip(rows, expected, strict=True):
        found = [row["recipients"], row["conversion_value"], row["revenue_per_recipient"]]
        assert row["flow_name"] == name
        assert all(isinstance(figure, int | float) for figure in found)
        assert found == pytest.approx([float(figure) for figure in figures])


def test_metrics_of_one_flow_as_csv_is_a_header_and_a_row(synced_shell: Shell, reader: Here) -> None:
    [(flow,)] = synced_shell.rows("SELECT min(flow_id) FROM flow_metrics")
    outcome = reader.run("metrics", *DAYS, "--flow", flow, "--format", "csv")
    [row] = csv.DictReader(io.StringIO(outcome.out))
    assert (outcome.code, row["flow_id"]) == (0, flow)
    assert float(row["recipients"]) > 0


def test_metrics_as_a_table_names_the_flows(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("metrics", *DAYS)
    assert outcome.code == 0
    assert all(flow in outcome.out for (flow,) in synced_shell.rows("SELECT DISTINCT flow_id FROM flow_metrics"))


def test_metrics_of_days_that_are_not_synced_are_an_empty_array_with_a_warning(
    synced_shell: Shell, reader: Here
) -> None:
    outcome = reader.run("metrics", "--from", "2024-01-01", "--to", "2024-01-02", "--format", "json")
    assert (outcome.code, json.loads(outcome.out)) == (0, [])
    assert outcome.err == (
        "warning: 0 of 2 days are synced: not synced for any of these days. "
        "Run `klaviyo-pipeline sync flow_report flow_metrics --from 2024-01-01 --to 2024-01-02`.\n"
    )


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_metrics_report_which_of_the_days_they_cover(form: str, synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("metrics", "--from", "2025-03-12", "--to", "2025-03-20", "--format", form)
    covered = (
        "3 of 9 days are synced: not synced for 6 days (15 Mar 2025 to 20 Mar 2025). "
        "Run `klaviyo-pipeline sync flow_report flow_metrics --from 2025-03-12 --to 2025-03-20`.\n"
    )
    messages = outcome.out if form == "table" else outcome.err
    assert (outcome.code, messages.endswith(covered)) == (0, True)
    if form == "json":
        assert {type(row) for row in json.loads(outcome.out)} == {dict}


def test_metrics_of_days_that_are_all_synced_say_so(synced_shell: Shell, reader: Here) -> None:
    assert reader.run("metrics", *DAYS).out.endswith("\nAll of these days are synced and final.\n")
    assert reader.run("metrics", *DAYS, "--format", "csv").err == ""


def test_metrics_of_an_unknown_flow_are_a_usage_error_in_one_line(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("metrics", *DAYS, "--flow", "NOPE")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "--flow 'NOPE': Postgres has no flow with this id" in outcome.err


def test_a_flow_without_metrics_on_these_days_is_not_an_error(synced_shell: Shell, reader: Here) -> None:
    [(flow,)] = synced_shell.rows("SELECT min(id) FROM flows")
    outcome = reader.run("metrics", "--from", "2024-01-01", "--to", "2024-01-02", "--flow", flow, "--format", "json")
    assert (outcome.code, outcome.out) == (0, "[]\n")


def test_a_list_names_the_days_whose_objects_may_be_missing(prepared_here: Here) -> None:
    days = ("--from", "2025-03-01", "--to", "2025-03-03")
    whole, part = prepared_here.run("list", "flows", "--format", "json"), prepared_here.run("list", "flows", *days)
    assert json.loads(whole.out) == []
    assert whole.err.startswith(
        "warning: flows: there was no census yet, so flows last updated before 2025-03-01 may be missing; not synced "
    )
    assert part.out.splitlines()[-1] == (
        "flows: not synced for 3 days (1 Mar 2025 to 3 Mar 2025). Run `klaviyo-pipeline sync flows flows_census`."
    )


@pytest.mark.parametrize(
    ("listed", "warning"),
    [
        (
            "2025-03-11 12:00Z",
            ["flows: not synced for 1 day (12 Mar 2025). Run `klaviyo-pipeline sync flows flows_census`."],
        ),
        ("2025-03-12 10:00Z", []),
    ],
)
def test_a_list_of_today_is_as_recent_as_a_census_of_today(
    listed: str, warning: list[str], prepared_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Noon:
            return cls(2025, 3, 12, 12, tzinfo=tz)

    monkeypatch.setattr(query_commands, "datetime", Noon)
    prepared_here.shell.rows(
        "INSERT INTO census_runs (entity, started_at, finished_at, status) "
        f"VALUES ('flows', '{listed}', '{listed}', 'complete') RETURNING 1"
    )
    outcome = prepared_here.run("list", "flows", "--from", "2025-03-12", "--to", "2025-03-12")
    assert [line for line in outcome.out.splitlines() if line.startswith("flows: ")] == warning


def test_a_list_after_a_census_has_no_warning(synced_shell: Shell, reader: Here) -> None:
    assert reader.run("list", "flows", *DAYS, "--format", "json").err == ""


def test_list_continues_after_the_last_id(synced_shell: Shell, reader: Here) -> None:
    first = json.loads(reader.run("list", "campaigns", "--limit", "5", "--format", "json").out)
    rest = json.loads(reader.run("list", "campaigns", "--after", first[-1]["id"], "--format", "json").out)
    assert len(first) == 5
    assert sorted(row["id"] for row in first + rest) == sorted(truth(synced_shell.shop, "campaigns"))


def test_list_filters_by_status_and_day(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("list", "flows", "--status", "live", *DAYS, "--format", "json")
    expected = synced_shell.rows(
        "SELECT id FROM flows WHERE status = 'live' AND updated_at >= '2025-03-01T05:00Z' "
        "AND updated_at < '2025-03-15T04:00Z' ORDER BY id"
    )
    assert [row["id"] for row in json.loads(outcome.out)] == [id for (id,) in expected] != []


def test_a_filter_that_the_entity_does_not_support_is_an_error_in_one_line(synced_shell: Shell, reader: Here) -> None:
    outcome = reader.run("list", "segments", "--status", "live")
    assert (outcome.code, outcome.err) == (1, "Error: segments have no status to filter by.\n")


def test_get_reads_postgres_first_then_requests_from_klaviyo_and_stores_the_object(
    prepared: Shell, prepared_here: Here
) -> None:
    for requests in (1, 1):
        outcome = prepared_here.run("get", "flows", "f1")
        assert (outcome.code, json.loads(outcome.out)["name"]) == (0, "flows f1")
        assert prepared.server.count("get_flow") == requests
    missing = prepared_here.run("get", "flows", "nobody")
    assert (missing.code, missing.err) == (1, "Error: flows nobody exists neither in Postgres nor in Klaviyo.\n")


def test_report_writes_a_page_and_names_the_missing_days(reader: Here, tmp_path: Path) -> None:
    page = tmp_path / "march.html"
    outcome = reader.run("report", "--from", "2025-03-01", "--to", "2025-03-20", "--out", str(page))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0].startswith(f"Report for 1 Mar 2025 to 20 Mar 2025: {page} (")
    assert "Flows, campaigns, forms, segments: not synced for 6 days (15 Mar 2025 to 20 Mar 2025)." in outcome.out
    displayed = page.read_text()
    [revenue] = reader.shell.rows(
        "SELECT sum(value) FROM (SELECT conversion_value FROM flow_metrics UNION ALL "
        "SELECT conversion_value FROM campaign_metrics) AS every (value)"
    )
    assert f'<dd class="value">{revenue[0]:,.0f}</dd>' in displayed
    assert list(tmp_path.iterdir()) == [page]


def test_report_covers_the_last_final_days_by_default(reader: Here, tmp_path: Path) -> None:
    outcome = reader.run("report", "--out", str(tmp_path / "r.html"))
    assert outcome.out.startswith("Report for 13 Feb 2025 to 14 Mar 2025: ")


def test_report_of_a_missing_schema_names_the_command_to_run(here: Here, tmp_path: Path) -> None:
    outcome = here.run("report", "--out", str(tmp_path / "r.html"))
    assert (outcome.code, list(tmp_path.glob("*.html"))) == (1, [])
    assert "klaviyo-pipeline migrate" in outcome.err
