"""The assets. A factory builds each asset, most of them from an entry of the catalog.

- `entity_assets`, `census_assets`, `report_assets`, `metrics_assets`, `conversions_asset`, `performance_report`: each
  of these modules contains a factory.
- `asset_metadata`: the columns, lineage, links, owners and tags of every asset.
"""
