"""Metadata that every asset has in the UI: columns, lineage, links, owners, tags.

It is added to all assets in one place, so that no factory repeats it. Columns and their comments are those of the
migrations in `sql/`; reading them needs no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import dagster as dg

from klaviyo_pipeline.catalog import CONVERSIONS_DAILY, METRICS, OBJECTS, REPORTS, MetricsTable, switched_on
from klaviyo_pipeline.config.api_revisions import API_REVISIONS
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.klaviyo.rates import QUERY_METRIC_AGGREGATES
from klaviyo_pipeline.orchestration.assets.performance_report import PERFORMANCE_REPORT
from klaviyo_pipeline.postgres.schema.declarations import Column, declared_tables
from klaviyo_pipeline.postgres.schema.tables import OBSERVED_AT
from klaviyo_pipeline.postgres.write.io_manager import TABLE

LAYERS = ("census", "report", "metrics")
"""Words in an asset name that become its tag `klaviyo/layer`. If a name has none of them, the layer is `objects`."""

REFERENCE = "https://developers.klaviyo.com/en/reference/{endpoint}"


def described(spec: dg.AssetSpec, account: Account, name: str, source: dg.LocalFileCodeReference) -> dg.AssetSpec:
    """The asset's spec with its columns, lineage, links, source, owners and tags. `name` is the asset's name."""
    references = {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[source])}
    return spec.merge_attributes(
        owners=account.owners,
        tags=_tags(name),
        metadata={
            **_columns(spec),
            **_lineage(account, name),
            **_revision(account, name),
            **_links(name),
            **references,
        },
    )


def latest_objects(account: Account, listing: Listing) -> list[dg.AssetDep]:
    """The dependency on the entity of this listing; none if the account does not sync the entity.

    The dependent asset uses the latest state of all objects. Its windows still depend on the entity's windows of the
    same days, so that one backfill can select the same days of both assets.
    """
    if listing.entity not in switched_on(account.assets):
        return []
    # A week or month may begin before the entity's first window, and end after the entity's last window.
    same_days = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    return [dg.AssetDep(account.asset_key(listing.entity), partition_mapping=same_days)]


def _tags(name: str) -> dict[str, str]:
    """Tags by which you can select assets: `tag:klaviyo/object=flows`, `tag:klaviyo/layer=report`."""
    if name == PERFORMANCE_REPORT:
        return {"klaviyo/layer": "page"}
    listing = _listing(name)
    objects = {"klaviyo/object": listing.entity} if listing else {}
    if name == CONVERSIONS_DAILY:
        return {"klaviyo/layer": "report"}
    words = () if listing and listing.entity == name else name.split("_")
    layer = next((one for one in LAYERS if one in words), "objects")
    return {"klaviyo/layer": layer, **objects}


def _columns(spec: dg.AssetSpec) -> Mapping[str, dg.TableSchema]:
    return _columns_of(str(spec.metadata.get(TABLE, "")))


@cache
def _columns_of(table_name: str) -> Mapping[str, dg.TableSchema]:
    """The metadata with a table's columns. It is cached by table, because all accounts have the same tables."""
    table = declared_tables().get(table_name)
    if table is None:
        return {}
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            description=column.comment or None,
            constraints=dg.TableColumnConstraints(nullable=column.nullable),
        )
        for column in table.columns.values()
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def _lineage(account: Account, name: str) -> dict[str, dg.TableColumnLineage]:
    """For a metrics asset: the columns of the report and of the entity that each column comes from."""
    metrics = METRICS.get(name)
    if metrics is None:
        return {}
    columns = declared_tables()[name].columns
    sources = {column.name: list(_sources(account, metrics, column)) for column in columns.values()}
    return {"dagster/column_lineage": dg.TableColumnLineage({name: deps for name, deps in sources.items() if deps})}


def _sources(account: Account, metrics: MetricsTable, column: Column) -> Iterator[dg.TableColumnDep]:
    if column.name in metrics.named:
        yield dg.TableColumnDep(dg.AssetKey(account.asset_key(metrics.entity)), metrics.named[column.name])
        return
    reported = declared_tables()[metrics.report].columns.keys() - {OBSERVED_AT}
    for name in column.sources or [column.name]:
        if name in reported:
            yield dg.TableColumnDep(dg.AssetKey(account.asset_key(metrics.report)), name)


def _revision(account: Account, name: str) -> dict[str, str]:
    """For an asset that calls Klaviyo: the revision of the API that it uses, and when Klaviyo retires that revision."""
    revision = API_REVISIONS[account.revision]
    dates = f"{revision.name}; deprecated from {revision.deprecated_on}; retires on {revision.retires_on}"
    return {"klaviyo_revision": dates} if _endpoint(name) else {}


def _links(name: str) -> dict[str, dg.MetadataValue]:
    listing, endpoint = _listing(name), _endpoint(name)
    page = {"klaviyo_page": dg.MetadataValue.url(listing.page)} if listing and listing.page else {}
    reference = {"klaviyo_reference": dg.MetadataValue.url(REFERENCE.format(endpoint=endpoint))} if endpoint else {}
    return {**page, **reference}


def _endpoint(name: str) -> str | None:
    """Klaviyo's name of the endpoint that the asset calls; None if the asset reads only Postgres."""
    if name in REPORTS:
        return REPORTS[name].report.endpoint.name
    if name == CONVERSIONS_DAILY:
        return QUERY_METRIC_AGGREGATES.name
    listing = OBJECTS.get(name.removesuffix("_census"))
    return listing.list_endpoint.name if listing else None


def _listing(name: str) -> Listing | None:
    """The listing of the asset's entity; None if the asset has no entity."""
    if name in REPORTS:
        return REPORTS[name].listing
    entity = METRICS[name].entity if name in METRICS else name.removesuffix("_census")
    return OBJECTS.get(entity)
