"""Asset checks: whether what is in Postgres is complete, matches Klaviyo, and is up to date.

- `check`: what a check is, its context, and its outcome.
- `entity_checks`, `drift_checks`, `ledger_checks`, `report_checks`, `metrics_checks`: read Postgres alone.
- `listing_checks`, `reconciliation_checks`: call Klaviyo's API, and so cost requests.
- `build_checks`: all of them as Dagster's, for one account.

A check changes nothing. If it finds a problem, its text names the remedy, such as a sync or a census.
"""
