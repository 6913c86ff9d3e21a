"""Maintenance of the system tables and of Dagster's storage. Data, history and the ledger are never deleted.

- `prune` deletes old operational records of an account and old logs of Dagster's runs. `prune_job` does so in a job.
- `dead_runs` marks runs as failed if their process died.
- `disk_usage` reads the size on disk of Dagster's tables.
"""
