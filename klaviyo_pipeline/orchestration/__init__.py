"""What Dagster sees of an account: assets, checks, jobs, schedules, sensors and resources.

Importing this package builds nothing. `build` makes the definitions of accounts.
"""
