"""What is right and wrong with an installation: settings, key, warehouse, Dagster, clocks.

Everything here looks and changes nothing: no migration, no claim of a schema, no slot of the shared pacing, no
database for Dagster. The embedded server is started where it is meant, since it cannot be looked at otherwise.

- `findings`: what a check says. `account`: what Klaviyo says of the key. `warehouse`, `dagster`, `clocks`.
- `doctor`: all of them, in the order in which one rests on the other.
"""
