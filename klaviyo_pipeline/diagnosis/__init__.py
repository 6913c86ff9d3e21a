"""What is right and wrong with an installation: settings, key, warehouse, Dagster, clocks.

Everything here looks and changes nothing: no migration, no binding of a schema, no slot of the shared pacing, no
database for Dagster. The embedded server is started where the settings mean it.

- `findings`: what a check found. `account_access`, `api_access`, `scopes`: Klaviyo and the key.
- `warehouse_access`, `dagster_access`, `clocks`: the database, Dagster's storage, the time.
- `doctor`: all of them, in the order in which one depends on the other.
"""
