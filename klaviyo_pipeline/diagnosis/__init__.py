"""Checks of an installation: settings, API key, warehouse, Dagster, clocks.

The checks do not change the warehouse. They do not migrate, bind a schema to an account, take a slot of the shared
pacing, or create a database for Dagster. They start the embedded server if the settings select it. In Dagster's
storage, they mark the runs of dead processes as failed, and correct partitions that differ from the ledger.

- `findings`: the result of a check. `account_access`, `api_access`, `scopes`: Klaviyo's API and the key.
- `warehouse_access`, `dagster_access`, `clocks`: the database, Dagster's storage, the clocks.
- `doctor`: runs all checks. A check comes after the checks that it depends on.
"""
