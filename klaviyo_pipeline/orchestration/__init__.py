"""An account's Dagster definitions: assets, checks, jobs, schedules, sensors and resources.

Importing this package builds nothing. The module `build` builds the definitions.
"""
