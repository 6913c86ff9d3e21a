"""Asset checks: whether the data in Postgres is complete, matches Klaviyo, and is up to date.

- `check`: the types of a check, of its context, and of its outcome.
- `listing_checks`, `reconciliation_checks`, and a part of `conversion_checks`: checks that call Klaviyo's API.
- The other modules whose names end in `_checks`, except `build_checks`: checks that read only Postgres.
- `build_checks`: Dagster's asset checks of one account. `checks_job`: all checks that read only Postgres, in one job.

If a check finds a problem, its text names the remedy, such as a sync or a census. A check changes only the ledger: if
rows of a synced window are lost, the window becomes failed, so that the next sync requests it again.
"""
