"""A sync: runs of Dagster for what the plan says, entities side by side, then the reports, then the metrics.

Every run is recorded in Dagster's instance, with its logs and materializations, as if it had been launched in the
UI. A failing asset does not stop the others.

- `sync`: one sync of one account. `workers`: chains of assets side by side, each in a process of its own.
- `forking`, `preloaded`: the server that these processes are forked from.
- `group`: assets one after the other, in this process. `instance`: what an earlier sync may have left behind.
"""
