"""Reports for people: a page and previews of what Postgres holds, in words, tables and charts.

Belongs here: reading the metrics tables for a period, and showing them. Does not belong here: Dagster, Klaviyo's API,
or anything that writes to the database. matplotlib and Jinja are imported by `charts` and `page` alone, which the
command line and the assets import when they draw: neither start is slowed.
"""
