"""Maintenance: deletes what is older than the retention. Data, history, the ledger and the UI's view of windows stay.

- `prune`: one account's system tables and Dagster's finished runs. `prune_job`: the same as a job.
- `disk_usage`: how much room Dagster's storage takes.
"""
