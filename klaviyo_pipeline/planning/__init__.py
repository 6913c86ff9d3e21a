"""What a sync has to request, and what that costs: windows, requests, time and quota.

The numbers come from the plan and from what the tables contain; Klaviyo is not called. They leave out the few requests
of every sync that find out whose key it is and what counts as a conversion, and lookups by id.

- `planner`: the windows that the ledger lacks. `chunks`: a range of windows as the listings that are read for it.
- `estimates`: one estimate for each asset. `page_counts`: requests of listings.
- `durations`: the time that requests take. `quota`: the daily quota of the reports.
"""
