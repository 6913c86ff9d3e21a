"""A truncated report: its metrics are not computed from no rows, and the command in the message helps."""

from __future__ import annotations

from datetime import date

from klaviyo_pipeline_tests.support import Pipeline

DAYS = ("2025-03-08", "2025-03-10")
FIGURES = "SELECT sum(recipients) FROM flow_metrics"


def test_metrics_are_unchanged_until_their_report_has_its_rows_again(pipeline: Pipeline) -> None:
    sent = {"flow_id": "F1", "flow_message_id": "M1", "send_channel": "email"}
    for day in (8, 9, 10):
        pipeline.shop.set_figures("flow", sent, date(2025, 3, day), {"recipients": 5})
    for asset in ("flow_report", "flow_metrics"):
        pipeline.run(asset, *DAYS)
    pipeline.execute("TRUNCATE flow_report")
    reported = pipeline.fail("flow_metrics", *DAYS)
    assert "sync flow_report flow_metrics --from 2025-03-08 --to 2025-03-10 --force" in reported
    assert pipeline.one(FIGURES) == 15
    for asset in ("flow_report", "flow_metrics"):
        pipeline.run(asset, *DAYS)
    assert pipeline.one(FIGURES) == pipeline.one("SELECT sum(recipients) FROM flow_report") == 15
