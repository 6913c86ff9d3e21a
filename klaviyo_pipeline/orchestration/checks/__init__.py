"""Asset checks: whether what is in Postgres is whole, is what Klaviyo shows, and is of today.

- `check`: what a check is, what it looks at, and what it comes to.
- `entities`, `drift`, `ledger`, `reports`, `metrics`: checks that read Postgres alone, each one small declaration.
- `listings`, `reconciliation`: checks that ask Klaviyo, and so cost requests.
- `assembling`: all of them as Dagster's, for one account.

What belongs here looks and changes nothing. What puts things right (a sync, a census) is named in a check's text.
"""
