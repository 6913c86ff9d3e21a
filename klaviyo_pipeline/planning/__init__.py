"""Plans a sync and estimates its cost: windows, requests, time and quota.

All numbers come from the ledger and the tables, without a request to Klaviyo. They leave out lookups by id, and the few
requests with which every sync identifies the account and its conversion metric.

- `planner` finds the windows that a sync requests. `chunks` divides a range of windows into listing queries.
- `estimates` estimates the cost of each asset. `page_counts` estimates the requests of listings.
- `durations` computes how long requests take. `quota` compares them with the daily quota of a report.
"""
