"""Checks of an installation: settings, API key, warehouse, Dagster, clocks.

The checks change nothing. They do not migrate, bind a schema to an account, take a slot of the shared pacing, or
create a database for Dagster. They start the embedded server if the settings select it.

- `findings`: the result of a check. `account_access`, `api_access`, `scopes`: Klaviyo's API and the key.
- `warehouse_access`, `dagster_access`, `clocks`: the database, Dagster's storage, the clocks.
- `doctor`: runs all checks, in the order of their dependencies.
"""
