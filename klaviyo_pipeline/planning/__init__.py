"""What a sync will cost before it asks anything: windows, requests, and the time that the published rates take.

The figures come from the plan and from what the tables hold; Klaviyo is not asked. They leave out the few requests
of every sync that ask whose key it is and what counts as a conversion, and lookups by id.

- `estimator`: one estimate for each asset. `pages`: requests of listings.
- `durations`: the time that requests take. `quota`: the daily quota of the reports.
"""
