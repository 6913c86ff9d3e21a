"""A sync: Dagster runs for what the plan contains, entities concurrently, then the reports, then the metrics.

Every run is recorded in Dagster's instance, with its logs and materializations, as if it had been launched in the
UI. A failing asset does not stop the others.

- `account_sync`: one sync of one account. `all_accounts`: one sync of each of several accounts.
- `workers`: groups of assets concurrently, each in its own process. `asset_runs`: the assets of one group.
- `forkserver`, `forkserver_preload`: the server that these processes are forked from.
- `instance_state`: Dagster's instance before and after a sync. `check_runs`: a run of every check.
- `refused_syncs`: the records of a sync that cannot start.
"""
