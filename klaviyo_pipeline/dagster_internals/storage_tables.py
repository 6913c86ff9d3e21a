"""The names of the tables of Dagster's storage. They are listed here because importing Dagster takes a second."""

DAGSTER_TABLES = frozenset(
    {
        "asset_check_executions",
        "asset_daemon_asset_evaluations",
        "asset_event_tags",
        "asset_keys",
        "backfill_tags",
        "bulk_actions",
        "concurrency_limits",
        "concurrency_slots",
        "daemon_heartbeats",
        "dynamic_partitions",
        "event_logs",
        "instance_info",
        "instigators",
        "job_ticks",
        "jobs",
        "kvs",
        "pending_steps",
        "run_tags",
        "runs",
        "secondary_indexes",
        "snapshots",
    }
)
