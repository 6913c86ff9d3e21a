"""Maintenance: deletes old logs and operational records. Data, history, the ledger and the UI's windows are kept.

- `prune`: deletes from one account's system tables, and from Dagster's finished runs. `prune_job`: the same as a job.
- `disk_usage`: the size on disk of Dagster's tables.
"""
