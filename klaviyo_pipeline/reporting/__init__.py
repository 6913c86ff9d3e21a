"""Reports for people: an HTML page and Markdown previews of the metrics in Postgres, as text, tables and charts.

This package reads the metrics tables for a period. It does not use Dagster or Klaviyo's API, and does not write to the
database. Only `charts` imports matplotlib, and only `page` imports Jinja. The command line and the assets import these
two modules only when they draw, because the import is slow.
"""
