"""Reports for people: an HTML page and Markdown previews of the metrics in Postgres, as text, tables and charts.

This package reads the metrics tables for a period, and presents them. It does not use Dagster or Klaviyo's API, and
does not write to the database. Only `charts` and `page` import matplotlib and Jinja. The command line and the assets
import these two when they draw, so that their start stays fast.
"""
