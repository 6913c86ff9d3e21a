"""Syncs accounts without Dagster's daemon, in Dagster runs for the windows that the planner finds.

A sync runs the entities concurrently, and then the reports concurrently, each followed by its metrics. Every run is
recorded in Dagster's instance, with its logs and materializations, as if you had launched it in the UI. If an asset
fails, the other assets are still synced.

- `account_sync` syncs one account, and `all_accounts` several accounts concurrently.
- `workers` runs groups of assets concurrently, each in its own process. `asset_runs` runs the assets of one group.
- `forkserver` and `forkserver_preload` provide the server from which these processes are forked.
- `instance_state` prepares Dagster's instance before a sync, and compares its partitions with the ledger afterwards.
- `check_runs` runs the checks.
- `refused_syncs` records why a sync could not start.
"""
