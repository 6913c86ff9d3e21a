"""The read path on five years of metrics: compares typical queries with a sequential scan of the whole table."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg

from benchmarks.results import Measurement
from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.schema.migrations import migrate

SCHEMA = "reading"
METRICS: LiteralString = """
    INSERT INTO flow_metrics (flow_id, date, flow_name, flow_status, trigger_type, messages, recipients, delivered,
        opens, opens_unique, clicks, clicks_unique, conversions, conversion_uniques, conversion_value, bounced,
        unsubscribe_uniques, spam_complaints, observed_at)
    SELECT 'F' || flow, day, 'Flow ' || flow, 'live', 'Metric', 3, 900, 880, 500, 400, 60, 50, 5, 5, 250.5, 20, 1, 0,
        now()
    FROM generate_series(1, %s) AS flow, generate_series(date '2022-01-01', date '2026-12-31' - %s, '1 day') AS day
"""
REPORT: LiteralString = """
    INSERT INTO flow_report (flow_id, flow_message_id, send_channel, date, recipients, delivered, opens, opens_unique,
        clicks, clicks_unique, conversions, conversion_uniques, conversion_value, bounced, observed_at,
        conversion_metric_id)
    SELECT flow_id, 'M', 'email', date, recipients, delivered, opens, opens_unique, clicks, clicks_unique, conversions,
        conversion_uniques, conversion_value, bounced, observed_at, 'RPlacd'
    FROM flow_metrics
"""
ACCOUNT: LiteralString = """
    INSERT INTO account (account_id, timezone, window_timezone, sync_window, start_date, verified_at)
    VALUES ('A', 'UTC', 'UTC', 'daily', '2022-01-01', now())
"""
LEDGER: LiteralString = """
    INSERT INTO sync_windows (entity, window_start, window_end, status, asked_at, rows_fetched, rows_inserted,
        rows_updated, rows_unchanged, rows_deleted, requests, attempts, run_id, started_at, finished_at)
    SELECT entity, day, day + interval '1 day', 'synced', day + interval '2 days', 1, 1, 0, 0, 0, 1, 1, 'run', day, day
    FROM unnest(ARRAY['flows', 'campaigns', 'forms', 'segments', 'flow_report', 'flow_metrics']) AS entity,
        generate_series(timestamptz '2022-01-01 00:00+00', timestamptz '2026-12-31 00:00+00', '1 day') AS day
"""
TABLES = ("flow_metrics", "flow_report", "sync_windows")
SCAN: LiteralString = "SELECT sum(recipients), sum(conversion_value), sum(opens), sum(clicks) FROM flow_metrics"
ONE_FLOW: LiteralString = """
    SELECT date, recipients, conversion_value, open_rate FROM flow_metrics
    WHERE flow_id = 'F1' AND date BETWEEN '2025-01-01' AND '2025-12-31' ORDER BY date
"""
QUERIES: tuple[tuple[str, LiteralString, float | None], ...] = (
    ("one flow's metrics over a year, by day", ONE_FLOW, 0.05),
    ("every flow's metrics over a year", "SELECT * FROM flow_metrics_between('2025-01-01', '2025-12-31')", 1),
    ("every flow's metrics over a month", "SELECT * FROM flow_metrics_between('2025-03-01', '2025-03-31')", None),
    ("the days of a report", "SELECT * FROM report_days", None),
    ("the states of all windows", "SELECT * FROM window_states", None),
    ("status", "SELECT * FROM sync_status", None),
)
WHOLE_TABLE = re.compile(r"Seq Scan on flow_metrics(?!_)")


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """Each query's time as a share of the scan's time, measured by the server."""
    flows, cut_days = (5, 1_700) if quick else (1_000, 0)
    migrate(url, SCHEMA, SQL_DIR)
    with psycopg.connect(url, autocommit=True, options=f"-csearch_path={SCHEMA}") as connection:
        connection.execute(METRICS, [flows, cut_days])
        for fill in (REPORT, ACCOUNT, LEDGER):
            connection.execute(fill)
        connection.execute(f"VACUUM ANALYZE {', '.join(TABLES)}")
        scan = _milliseconds(connection, SCAN)
        for name, query, mark in QUERIES:
            share = _milliseconds(connection, query) / scan
            yield Measurement("reading", f"{name}, relative to a scan of five years", share, "share", mark, "at most")
        scans = sum(_scans(connection, query) for _, query, _ in QUERIES)
        yield Measurement("reading", "full scans of flow_metrics by all these queries", scans, "scan", 0, "at most")


def _milliseconds(connection: psycopg.Connection[Any], query: LiteralString, repetitions: int = 5) -> float:
    times = []
    for _ in range(repetitions):
        [[[plan]]] = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}").fetchall()
        times.append(float(plan["Execution Time"]))
    return statistics.median(times)


def _scans(connection: psycopg.Connection[Any], query: LiteralString) -> bool:
    """Whether the plan scans all of flow_metrics."""
    plan = connection.execute(f"EXPLAIN {query}").fetchall()
    return any(WHOLE_TABLE.search(line) for (line,) in plan)
