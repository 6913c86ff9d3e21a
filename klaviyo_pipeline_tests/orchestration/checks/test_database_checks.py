"""The checks that read only Postgres: each passes on an account without errors, and detects its error."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.orchestration.checks.build_checks import database_checks
from klaviyo_pipeline_tests.orchestration.checks.conftest import ENTITIES, NOW, Stored
from klaviyo_pipeline_tests.support import SLUG, utc

pytestmark = pytest.mark.slow

EVERY = [(asset, check.name) for asset, checks in database_checks(Account(slug=SLUG)).items() for check in checks]


def test_every_check_passes_on_an_account_without_faults(stored: Stored) -> None:
    failed = {
        (asset, name): result.found
        for asset, name in EVERY
        if (result := stored.check(asset, name)).outcome != "passed"
    }
    assert failed == {}


# Rows and history.


def test_a_row_with_the_raw_of_another_object_is_an_error(stored: Stored) -> None:
    stored.run("UPDATE flows SET raw = jsonb_set(raw, '{id}', '\"F9\"') WHERE id = 'F1'")
    result = stored.check("flows", "columns_match_raw")
    assert result.outcome == "error"
    assert "F1" in result.found
    assert "F2" not in result.found


@pytest.mark.parametrize("change", ["name = 'x'", "archived = NOT archived", "trigger_type = NULL"])
def test_a_column_that_differs_from_its_attribute_is_an_error(change: str, stored: Stored) -> None:
    stored.run(f"UPDATE flows SET {change} WHERE id = 'F1'")
    assert stored.check("flows", "columns_match_raw").outcome == "error"


def test_an_attribute_that_cannot_be_parsed_is_no_error(stored: Stored) -> None:
    stored.run("UPDATE flows SET name = NULL, raw = jsonb_set(raw, '{attributes,name}', '7') WHERE id = 'F1'")
    assert stored.check("flows", "columns_match_raw").outcome == "passed"


EARLIER_STATE = """
INSERT INTO {0}_superseded (id, raw, valid_from, valid_to)
SELECT id, raw, observed_at - interval '2 days', observed_at - interval '{1}' FROM {0} ORDER BY id LIMIT 1
"""
"""A state that begins two days before the first row's state, and ends this long before it."""


@pytest.mark.parametrize("entity", ENTITIES)
def test_an_earlier_state_that_ends_with_the_next_is_sound(entity: str, stored: Stored) -> None:
    stored.run(EARLIER_STATE.format(entity, "0 s"))
    assert stored.check(entity, "history_is_unbroken").outcome == "passed"


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("end", ["1 day", "-1 day"])
def test_a_gap_or_an_overlap_in_the_history_is_an_error(entity: str, end: str, stored: Stored) -> None:
    stored.run(EARLIER_STATE.format(entity, end))
    result = stored.check(entity, "history_is_unbroken")
    assert result.outcome == "error"
    assert result.metadata["objects"] == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {0} SET observed_at = observed_at + interval '1 s' WHERE id = (SELECT min(id) FROM {0})",
        "DELETE FROM {0} WHERE id = (SELECT min(id) FROM {0})",
    ],
)
@pytest.mark.parametrize("entity", ENTITIES)
def test_a_row_that_does_not_follow_its_earlier_states_is_an_error(entity: str, statement: str, stored: Stored) -> None:
    stored.run(EARLIER_STATE.format(entity, "0 s"))
    stored.run(statement.format(entity))
    result = stored.check(entity, "history_is_unbroken")
    assert result.outcome == "error"
    assert result.metadata["objects"] == 1


# The census.


def test_an_old_census_is_a_warning(stored: Stored) -> None:
    stored.run("UPDATE census_runs SET started_at = :at", at=NOW - timedelta(hours=49))
    assert stored.check("flows_census", "census_is_fresh").outcome == "warning"
    assert stored.check("flows_census", "census_is_fresh", NOW - timedelta(hours=2)).outcome == "passed"


def test_no_complete_census_is_a_warning(stored: Stored) -> None:
    stored.run("UPDATE census_runs SET status = 'failed', error = 'too few' WHERE entity = 'flows'")
    result = stored.check("flows_census", "census_is_fresh")
    assert result.outcome == "warning"
    assert "too few" in result.found
    assert stored.check("forms_census", "census_is_fresh").outcome == "passed"


def test_a_failed_census_after_the_last_complete_one_is_reported(stored: Stored) -> None:
    stored.run(
        "INSERT INTO census_runs (entity, started_at, status, error) "
        "SELECT entity, started_at + interval '1 h', 'failed', 'implausible' FROM census_runs WHERE entity = 'flows'"
    )
    assert "implausible" in stored.check("flows_census", "census_is_fresh").found


# Schema drift.


def test_an_undeclared_attribute_is_a_warning_that_names_it(stored: Stored) -> None:
    stored.run("UPDATE flows SET raw = jsonb_set(raw, '{attributes,smart}', 'true')")
    result = stored.check("flows", "attributes_are_known")
    assert result.outcome == "warning"
    assert "smart" in result.found
    assert result.metadata["unknown"] == {"smart": 2}


def test_a_missing_attribute_is_an_error_that_lists_the_objects(stored: Stored) -> None:
    stored.run("UPDATE forms SET raw = raw #- '{attributes,ab_test}' WHERE id = 'W2'")
    result = stored.check("forms", "attributes_are_present")
    assert result.outcome == "error"
    assert "ab_test, missing in W2" in result.found


def test_attributes_of_deleted_objects_are_no_drift(stored: Stored) -> None:
    stored.run("UPDATE flows SET raw = '{\"attributes\": {\"smart\": 1}}', deleted_at = now() WHERE id = 'F1'")
    assert stored.check("flows", "attributes_are_known").outcome == "passed"
    assert stored.check("flows", "attributes_are_present").outcome == "passed"


def test_an_undeclared_statistic_is_a_warning_that_names_it(stored: Stored) -> None:
    assert stored.check("form_report", "statistics_are_known").outcome == "passed"
    stored.run("UPDATE form_report SET other_statistics = '{\"wows\": 1, \"wow_rate\": null}' WHERE form_id = 'W1'")
    result = stored.check("form_report", "statistics_are_known")
    assert result.outcome == "warning"
    assert "wows (in 41 rows, such as W1, last on 2025-04-10)" in result.found
    assert result.metadata["unknown"] == {"wows": 41, "wow_rate": 41}


# The ledger.


def test_overlapping_windows_are_an_error(stored: Stored) -> None:
    stored.run("UPDATE sync_windows SET window_end = window_end + interval '1 h' WHERE window_start = '2025-03-05'")
    result = stored.check("flow_report", "windows_do_not_overlap")
    assert result.outcome == "error"
    assert "2025-03-05" in result.found


def test_windows_of_another_zone_are_an_error(stored: Stored) -> None:
    stored.run(
        "UPDATE sync_windows SET window_start = window_start + interval '100 days 5 h', "
        "window_end = window_end + interval '100 days 5 h' WHERE entity = 'flows'"
    )
    assert stored.check("flows", "windows_do_not_overlap").outcome == "error"
    assert stored.check("forms", "windows_do_not_overlap").outcome == "passed"


def test_a_gap_between_windows_is_a_warning_that_names_the_days_to_sync(stored: Stored) -> None:
    stored.run("DELETE FROM sync_windows WHERE window_start IN ('2025-03-05', '2025-03-06')")
    result = stored.check("segments", "windows_have_no_gaps")
    assert result.outcome == "warning"
    assert "sync segments --from 2025-03-05 --to 2025-03-06" in result.found


def test_a_failed_window_is_an_error_that_gives_its_reason(stored: Stored) -> None:
    stored.run("UPDATE sync_windows SET status = 'failed', error = 'no answer' WHERE window_start = '2025-03-05'")
    result = stored.check("campaigns", "windows_have_not_failed")
    assert result.outcome == "error"
    assert "no answer" in result.found


def test_a_start_date_after_the_failed_windows_ends_the_error_unless_they_were_synced(stored: Stored) -> None:
    failed = "UPDATE sync_windows SET status = 'failed', error = 'no answer', asked_at = {} WHERE window_start = '{}'"
    stored.run(failed.format("NULL", "2025-03-05"))
    stored.account = replace(stored.account, start_date=date(2025, 3, 6))
    assert stored.check("flow_report", "windows_have_not_failed").outcome == "passed"
    stored.run(failed.format("now()", "2025-03-04"))
    result = stored.check("flow_report", "windows_have_not_failed")
    assert "Set KLAVIYO_START_DATE=2025-03-04, which is 2025-03-06 now. Run `klaviyo-pipeline sync" in result.found


@pytest.mark.parametrize(
    ("hours", "outcome"), [(36, "passed"), (37, "warning"), (7 * 24, "warning"), (7 * 24 + 1, "error")]
)
@pytest.mark.parametrize("asset", ["flows", "flow_report", "segment_metrics"])
def test_old_data_is_a_warning_and_then_an_error(asset: str, hours: int, outcome: str, stored: Stored) -> None:
    through = utc("2025-04-11T00:00:00")
    assert stored.check(asset, "synced_through_is_fresh", through + timedelta(hours=hours)).outcome == outcome


def test_an_old_backfill_does_not_look_fresh(stored: Stored) -> None:
    stored.run("DELETE FROM sync_windows WHERE window_start > '2025-03-20'")
    stored.run("UPDATE sync_windows SET finished_at = :now", now=NOW)
    assert stored.check("flows", "synced_through_is_fresh").outcome == "error"


def test_an_asset_that_was_never_synced_is_a_warning(stored: Stored) -> None:
    stored.run("DELETE FROM sync_windows")
    assert stored.check("flows", "synced_through_is_fresh").outcome == "warning"


def test_hourly_windows_are_late_after_some_hours(stored: Stored) -> None:
    stored.account = replace(stored.account, sync_window="hourly")
    late = utc("2025-04-11T07:00:00")
    assert stored.check("flows", "synced_through_is_fresh", late).outcome == "warning"
    assert stored.check("flow_report", "synced_through_is_fresh", late).outcome == "passed"


# The settings that a report was requested with.


def test_a_configured_time_zone_that_is_not_the_accounts_is_an_error_with_the_remedy(stored: Stored) -> None:
    stored.run("UPDATE account SET timezone = 'Asia/Tokyo'")
    for asset in ("flow_report", "campaign_report", "form_report", "segment_report"):
        result = stored.check(asset, "timezone_matches_account")
        assert result.outcome == "error"
        assert "KLAVIYO_TIMEZONE=Asia/Tokyo" in result.found


def test_the_old_name_of_the_accounts_time_zone_is_no_other_zone(stored: Stored) -> None:
    stored.account = replace(stored.account, timezone="America/New_York")
    stored.run("UPDATE account SET timezone = 'US/Eastern'")
    stored.run("UPDATE sync_windows SET account_timezone = 'US/Eastern' WHERE window_start < '2025-03-03'")
    stored.run("UPDATE sync_windows SET account_timezone = 'America/New_York' WHERE window_start >= '2025-03-03'")
    assert stored.check("form_report", "timezone_matches_account").outcome == "passed"


def test_days_that_were_requested_in_another_zone_are_an_error(stored: Stored) -> None:
    stored.run("UPDATE sync_windows SET account_timezone = 'Asia/Tokyo' WHERE window_start < '2025-03-03'")
    result = stored.check("form_report", "timezone_matches_account")
    assert result.outcome == "error"
    assert "--from 2025-03-01 --to 2025-03-02" in result.found


def test_a_changed_conversion_metric_is_an_error_with_the_remedy(stored: Stored) -> None:
    stored.run("UPDATE account SET conversion_metric_id = 'RChkot'")
    result = stored.check("flow_report", "conversions_are_of_one_metric")
    assert result.outcome == "error"
    assert "sync flow_report flow_metrics --from 2025-03-01 --to 2025-04-10 --force" in result.found


def test_a_changed_currency_is_an_error_with_the_remedy(stored: Stored) -> None:
    stored.run("UPDATE account SET currency = 'EUR'")
    result = stored.check("campaign_report", "values_are_in_one_currency")
    assert result.outcome == "error"
    assert "USD" in result.found
    assert "--force" in result.found


# Rows that the ledger counted, and times ahead of the clock.


@pytest.mark.parametrize("kind", ["flow", "campaign", "form", "segment"])
def test_a_truncated_report_is_an_error_whose_command_syncs_report_and_metrics(kind: str, stored: Stored) -> None:
    report, metrics = f"{kind}_report", f"{kind}_metrics"
    stored.run(f"TRUNCATE {report}")
    for asset, name in ((report, "rows_match_ledger"), (metrics, "metrics_match_report")):
        result = stored.check(asset, name)
        assert result.outcome == "error"
        assert f"klaviyo-pipeline sync {report} {metrics} --from 2025-03-" in result.found
        assert "--force" in result.found
    # The metrics themselves are unchanged.
    assert stored.check(metrics, "rows_match_ledger").outcome == "passed"


def test_a_single_day_with_missing_rows_is_listed(stored: Stored) -> None:
    stored.run("DELETE FROM flow_report WHERE flow_id = 'F1' AND date = '2025-03-20'")
    found = stored.check("flow_report", "rows_match_ledger").found
    assert "flow_report has a different number of rows than the ledger counted for 1 day" in found
    assert "sync flow_report flow_metrics --from 2025-03-20 --to 2025-03-20 --force" in found


def test_metrics_are_not_computed_again_from_a_report_that_was_changed_by_hand(stored: Stored) -> None:
    stored.run("UPDATE flow_report SET opens_unique = opens_unique + 5 WHERE date = '2025-03-20'")
    found = stored.check("flow_metrics", "metrics_match_report").found
    assert "klaviyo-pipeline sync flow_report flow_metrics --from 2025-03-20 --to 2025-03-20 --force" in found


def test_truncated_metrics_are_computed_again_from_a_complete_report(stored: Stored) -> None:
    stored.run("TRUNCATE flow_metrics")
    found = stored.check("flow_metrics", "rows_match_ledger").found
    assert "klaviyo-pipeline sync flow_metrics --from 2025-03-01 --to 2025-04-10 --force" in found
    stored.run("TRUNCATE flow_report")
    found = stored.check("flow_metrics", "rows_match_ledger").found
    assert "klaviyo-pipeline sync flow_report flow_metrics --from 2025-03-01 --to 2025-04-10 --force" in found


def test_a_truncated_entity_is_an_error_whose_command_syncs_the_windows_and_the_census(stored: Stored) -> None:
    stored.run("TRUNCATE campaigns, campaigns_superseded CASCADE")
    result = stored.check("campaigns", "rows_match_ledger")
    assert result.outcome == "error"
    command = "klaviyo-pipeline sync campaigns campaigns_census --from 2025-03-15 --to 2025-03-25 --force"
    assert command in result.found


def test_an_object_without_a_time_does_not_stand_for_the_lost_objects_of_every_window(stored: Stored) -> None:
    stored.run("UPDATE campaigns SET updated_at = NULL WHERE id = (SELECT min(id) FROM campaigns)")
    stored.run("DELETE FROM campaigns WHERE updated_at IS NOT NULL")
    stored.run("UPDATE sync_windows SET rows_fetched = 2 WHERE entity = 'campaigns' AND rows_fetched > 0")
    assert stored.check("campaigns", "rows_match_ledger").outcome == "error"


def test_an_object_that_changed_later_still_counts_by_its_earlier_state(stored: Stored) -> None:
    stored.run(
        "INSERT INTO campaigns_superseded (id, raw, updated_at, valid_from, valid_to) "
        "SELECT id, raw, updated_at, observed_at - interval '1 day', observed_at FROM campaigns"
    )
    stored.run("UPDATE campaigns SET updated_at = '2025-04-20'")
    assert stored.check("campaigns", "rows_match_ledger").outcome == "passed"


@pytest.mark.parametrize("asset", [*ENTITIES, "flow_report", "flow_metrics"])
def test_a_row_observed_ahead_of_the_clock_is_an_error_with_the_remedy(asset: str, stored: Stored) -> None:
    stored.run(f"UPDATE {asset} SET observed_at = now() + interval '1 day'")
    result = stored.check(asset, "observations_are_past")
    assert result.outcome == "error"
    assert "klaviyo-pipeline reset-clock" in result.found


def test_a_window_requested_ahead_of_the_clock_is_an_error(stored: Stored) -> None:
    stored.run("UPDATE sync_windows SET asked_at = now() + interval '1 day' WHERE entity = 'forms'")
    assert stored.check("forms", "observations_are_past").outcome == "error"
    assert stored.check("flows", "observations_are_past").outcome == "passed"
