"""The checks of values and metrics: each detects its error, and passes where values only look odd."""

from __future__ import annotations

import pytest

from klaviyo_pipeline_tests.orchestration.checks.conftest import Stored

pytestmark = pytest.mark.slow


# Values.


@pytest.mark.parametrize(
    ("asset", "column"),
    [
        ("flow_report", "recipients"),
        ("campaign_report", "clicks_unique"),
        ("form_report", "submits"),
        ("segment_report", "total_members"),
    ],
)
def test_a_negative_count_is_an_error_that_lists_the_object(asset: str, column: str, stored: Stored) -> None:
    stored.run(f"UPDATE {asset} SET {column} = -1 WHERE ctid = (SELECT min(ctid) FROM {asset})")
    result = stored.check(asset, "counts_are_not_negative")
    assert result.outcome == "error"
    assert result.metadata["rows"] == 1


def test_refunds_and_shrinking_segments_are_no_error(stored: Stored) -> None:
    stored.run("UPDATE flow_report SET conversion_value = -5")
    stored.run("UPDATE segment_report SET net_members_changed = -5")
    assert stored.check("flow_report", "counts_are_not_negative").outcome == "passed"
    assert stored.check("segment_report", "counts_are_not_negative").outcome == "passed"


@pytest.mark.parametrize(
    ("asset", "change"),
    [
        ("flow_report", "opens_unique = delivered + 1, opens = delivered + 9"),
        ("flow_report", "clicks_unique = 1, clicks = 0"),
        ("campaign_report", "clicks_unique = delivered + 1, clicks = delivered + 9"),
        ("form_report", "viewed_form_uniques = viewed_form + 1"),
    ],
)
def test_more_people_than_actions_are_a_warning(asset: str, change: str, stored: Stored) -> None:
    stored.run(f"UPDATE {asset} SET {change} WHERE ctid = (SELECT min(ctid) FROM {asset})")
    result = stored.check(asset, "uniques_are_within_counts")
    assert result.outcome == "warning"
    assert result.metadata["rows"] == 1


def test_a_text_messages_clicks_may_exceed_its_confirmed_deliveries(stored: Stored) -> None:
    stored.run("UPDATE flow_report SET send_channel = 'sms', clicks = delivered + 9, clicks_unique = delivered + 9")
    assert stored.check("flow_report", "uniques_are_within_counts").outcome == "passed"


@pytest.mark.parametrize(
    ("asset", "id"), [("flow_report", "F1"), ("campaign_report", "C2"), ("form_report", "W1"), ("segment_report", "S1")]
)
def test_an_active_object_without_values_is_a_warning_that_lists_it(asset: str, id: str, stored: Stored) -> None:
    kind = asset.removesuffix("_report")
    stored.run(f"DELETE FROM {asset} WHERE {kind}_id = :id AND date >= '2025-03-12'", id=id)
    result = stored.check(asset, "active_objects_have_metrics")
    assert result.outcome == "warning"
    assert id in result.found
    assert result.metadata["silent"] == 1


def test_groups_without_an_id_and_groups_that_were_added_are_a_warning_that_lists_them(stored: Stored) -> None:
    stored.run("UPDATE flow_report SET flow_id = '' WHERE flow_id = 'F1' AND date = '2025-03-05'")
    stored.run("UPDATE flow_report SET groups = 2 WHERE flow_id = 'F2' AND date = '2025-03-06'")
    result = stored.check("flow_report", "groups_have_ids")
    assert result.outcome == "warning"
    assert "no id on 2025-03-05 (1 group), F2 on 2025-03-06 (2 groups)" in result.found


def test_campaign_values_without_a_day_are_a_warning_with_their_value(stored: Stored) -> None:
    stored.run(
        "INSERT INTO campaign_report_undated (campaign_id, campaign_message_id, send_channel, conversion_metric_id, "
        "recipients, conversion_value, asked_from, asked_to, observed_at) "
        "VALUES ('odd', 'M', 'email', 'RPlacd', 5, 77.5, '2025-03-01', '2025-03-31', now()), "
        "('', '', '', 'RPlacd', 2, NULL, '2025-03-01', '2025-03-31', now())"
    )
    result = stored.check("campaign_report", "rows_have_a_day")
    assert result.outcome == "warning"
    assert (
        "no id (2 recipients, 0.00 in conversion_value), odd (5 recipients, 77.50 in conversion_value)" in result.found
    )


def test_missing_values_are_not_reported_for_days_that_were_never_requested(stored: Stored) -> None:
    stored.run("DELETE FROM flow_report")
    stored.run("DELETE FROM sync_windows WHERE window_start = '2025-04-01'")
    assert stored.check("flow_report", "active_objects_have_metrics").outcome == "passed"


@pytest.mark.parametrize(
    "change", ["status = 'draft'", "archived = true", "deleted_at = now()", "created_at = '2025-04-01'"]
)
def test_objects_that_are_not_live_or_that_are_new_need_no_values(change: str, stored: Stored) -> None:
    stored.run("DELETE FROM flow_report WHERE flow_id = 'F1'")
    stored.run(f"UPDATE flows SET {change} WHERE id = 'F1'")
    assert stored.check("flow_report", "active_objects_have_metrics").outcome == "passed"


# Metrics.


@pytest.mark.parametrize("kind", ["flow", "campaign", "form", "segment"])
@pytest.mark.parametrize("change", ["UPDATE {0} SET {1} = {1} + 0.01", "DELETE FROM {0}"])
def test_metrics_that_differ_from_the_reports_sums_are_an_error(kind: str, change: str, stored: Stored) -> None:
    column = {"form": "submits", "segment": "members_added"}.get(kind, "conversion_value")
    one = f" WHERE ctid = (SELECT min(ctid) FROM {kind}_metrics)"
    stored.run(change.format(f"{kind}_metrics", column) + one)
    result = stored.check(f"{kind}_metrics", "metrics_match_report")
    assert result.outcome == "error"
    assert result.metadata["rows"] == 1


def test_metrics_of_an_object_that_the_report_lacks_are_an_error(stored: Stored) -> None:
    stored.run("DELETE FROM flow_report WHERE flow_id = 'F1' AND date = '2025-03-05'")
    result = stored.check("flow_metrics", "metrics_match_report")
    assert result.outcome == "error"
    assert "F1 on 2025-03-05" in result.found


def test_metrics_of_a_report_that_was_synced_again_later_are_not_compared(stored: Stored) -> None:
    stored.run("UPDATE flow_report SET recipients = recipients + 1 WHERE date = '2025-03-05'")
    stored.run(
        "UPDATE sync_windows SET asked_at = asked_at + interval '1 h' "
        "WHERE entity = 'flow_report' AND window_start = '2025-03-05'"
    )
    assert stored.check("flow_metrics", "metrics_match_report").outcome == "passed"


@pytest.mark.parametrize(
    ("asset", "change"),
    [
        ("flow_metrics", "delivered = recipients + 1"),
        ("flow_metrics", "opens_unique = delivered + 1"),
        ("campaign_metrics", "bounced = recipients + 1"),
        ("form_metrics", "closed_form = viewed_form + 1"),
        ("flow_metrics", "conversion_uniques = -1"),
    ],
)
def test_a_rate_out_of_bounds_is_a_warning_because_klaviyos_own_counts_may_be_so(
    asset: str, change: str, stored: Stored
) -> None:
    stored.run(f"UPDATE {asset} SET {change} WHERE ctid = (SELECT min(ctid) FROM {asset})")
    result = stored.check(asset, "rates_within_bounds")
    assert result.outcome == "warning"
    # Counts that were changed by hand are an error.
    assert stored.check(asset, "metrics_match_report").outcome == "error"
    assert result.metadata["rows"] == 1


def test_clicks_without_opens_and_revenue_are_not_bounded_by_1(stored: Stored) -> None:
    stored.run("UPDATE flow_metrics SET clicks_unique = delivered, opens_unique = 1, conversion_value = 10000")
    stored.run("UPDATE form_metrics SET submits = viewed_form + 1")
    assert stored.check("flow_metrics", "rates_within_bounds").outcome == "passed"
    assert stored.check("form_metrics", "rates_within_bounds").outcome == "passed"


def test_rounding_noise_of_floats_is_no_error(stored: Stored) -> None:
    stored.run("UPDATE flow_metrics SET opens_unique = delivered + 0.0000001")
    assert stored.check("flow_metrics", "rates_within_bounds").outcome == "passed"
