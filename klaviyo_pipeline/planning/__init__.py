"""The requests of a sync and their cost: windows, requests, time and quota.

The numbers come from the ledger and the tables; Klaviyo is not called. They leave out lookups by id and the few
requests of every sync that identify the account and its conversion metric.

- `planner`: the windows that the ledger lacks. `chunks`: the listing queries of a range of windows.
- `estimates`: one estimate for each asset. `page_counts`: requests of listings.
- `durations`: the time that requests take. `quota`: the daily quota of the reports.
"""
