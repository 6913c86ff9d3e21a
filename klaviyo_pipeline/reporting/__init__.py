"""Reports for people: an HTML page and Markdown previews of the metrics in Postgres, as text, tables and charts.

Belongs here: reading the metrics tables for a period, and presenting them. Does not belong here: Dagster, Klaviyo's
API, or anything that writes to the database. Only `charts` and `page` import matplotlib and Jinja. The command line and
the assets import these two when they draw, so that their start stays fast.
"""
