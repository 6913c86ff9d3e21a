"""The metadata of assets in the UI: columns, lineage, links, owners, and plotted values for each window."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline_tests.support import Pipeline, definitions_of, put, utc

ACCOUNT = Account(slug="shop")


def node(name: str, account: Account = ACCOUNT) -> dg.AssetSpec:
    key = dg.AssetKey([account.slug, name])
    return definitions_of(account).resolve_assets_def(key).specs_by_key[key]


@pytest.mark.parametrize("asset", ["flows", "flows_census", "tags", "flow_report", "flow_metrics"])
def test_every_column_has_a_description(asset: str) -> None:
    schema = node(asset).metadata["dagster/column_schema"]
    assert schema.columns
    assert [column.name for column in schema.columns if not column.description] == []


@pytest.mark.parametrize(
    ("asset", "end"),
    [
        ("segment_metrics", "the latest name and is_active in segments."),
        ("flow_metrics", "the latest name, status and trigger_type in flows."),
        ("performance_report", f"`reports/{ACCOUNT.slug}` of the folder `KLAVIYO_STATE_DIR`, by default `.klaviyo`."),
    ],
)
def test_a_description_names_the_columns_or_the_folder_of_its_account(asset: str, end: str) -> None:
    assert (node(asset).description or "").endswith(end)


def test_the_tag_of_reports_selects_no_page() -> None:
    assert node("performance_report").tags["klaviyo/layer"] == "page"


def test_lineage_of_a_metric_names_the_columns_it_is_computed_from() -> None:
    deps = node("flow_metrics").metadata["dagster/column_lineage"].deps_by_column
    reported = {name: {(dep.asset_key.path[-1], dep.column_name) for dep in deps[name]} for name in deps}
    assert reported["opens"] == {("flow_report", "opens")}
    assert reported["open_rate"] == {("flow_report", "opens_unique"), ("flow_report", "delivered")}
    assert reported["flow_status"] == {("flows", "status")}
    assert "observed_at" not in reported


def test_every_column_of_a_lineage_exists() -> None:
    for name in ("flow_metrics", "campaign_metrics", "form_metrics", "segment_metrics"):
        spec = node(name)
        deps = spec.metadata["dagster/column_lineage"].deps_by_column
        assert deps.keys() <= {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for dep in (dep for sources in deps.values() for dep in sources):
            columns = node(dep.asset_key.path[-1]).metadata["dagster/column_schema"].columns
            assert dep.column_name in {column.name for column in columns}


def test_assets_that_call_klaviyo_have_the_dates_of_their_revision() -> None:
    older = replace(ACCOUNT, revision="2026-07-15")
    dates = "2026-07-15; deprecated from 2027-07-15; retires on 2028-07-15"
    for name in ("flows", "campaigns_census", "flow_report"):
        assert node(name, older).metadata["klaviyo_revision"] == dates
    assert "klaviyo_revision" not in node("flow_metrics", older).metadata


def test_owners_are_those_of_the_account() -> None:
    owned = replace(ACCOUNT, owners=("jo@example.com", "team:data"))
    assert {tuple(node(name, owned).owners) for name in ("flows", "flow_metrics")} == {owned.owners}


def test_a_materialized_window_reports_its_latest_update(pipeline: Pipeline) -> None:
    put(pipeline.shop, "flows", "f1", utc("2025-03-01T08:00:00"))
    put(pipeline.shop, "flows", "f2", utc("2025-03-01T20:30:00"))
    result = pipeline.run("flows", "2025-03-01", "2025-03-02")
    reported = {
        event.partition: event.materialization.metadata.get("newest_updated")
        for event in result.get_asset_materialization_events()
    }
    newest = reported["2025-03-01"]
    assert isinstance(newest, dg.TimestampMetadataValue)
    assert newest.value == utc("2025-03-01T20:30:00").timestamp()
    assert reported["2025-03-02"] is None
