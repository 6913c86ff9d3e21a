"""The assets, each made by a factory from an entry of the catalog.

- `entity_assets`, `census_assets`, `report_assets`, `metrics_assets`, `performance_report`: one factory each.
- `asset_metadata`: columns, lineage, links, owners and tags, added to all of them.
"""
