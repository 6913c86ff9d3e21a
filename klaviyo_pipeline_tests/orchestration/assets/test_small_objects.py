"""Lists, templates, metrics and form versions: the first two by window and census, the others by full listing only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.shop import metrics
from klaviyo_pipeline_tests.support import Pipeline, key_of, pipeline_on, put, truth, utc

pytestmark = pytest.mark.slow

DAY = "2025-03-10"
NOON = utc("2025-03-10T12:00:00")
HTML = "<h1>Hello</h1>" * 20


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch, assets=("default", "lists", "templates")) as pipeline:
        yield pipeline


@pytest.mark.parametrize(
    ("entity", "named"), [("lists", {"opt_in_process": "double_opt_in"}), ("templates", {"editor_type": "CODE"})]
)
def test_lists_and_templates_have_windows_a_census_and_history(
    entity: str, named: dict[str, str], shop: SandboxAccount, pipeline: Pipeline
) -> None:
    for number in range(23):
        put(shop, entity, f"x{number:02}", NOON + timedelta(seconds=number), created=NOON, **named)
    put(shop, entity, "old", utc("2019-05-01T12:00:00"), created=utc("2019-05-01T12:00:00"), **named)
    pipeline.run(entity, DAY)
    assert pipeline.ids(entity) == [f"x{number:02}" for number in range(23)]
    put(shop, entity, "x00", NOON, name="renamed")
    shop.delete(entity, "x01")
    pipeline.run(f"{entity}_census")
    assert pipeline.ids(entity) == ["old", "x00", *(f"x{number:02}" for number in range(2, 23))]
    [column] = named
    assert pipeline.rows(f"SELECT DISTINCT {column} FROM {entity}") == [named[column]]
    assert pipeline.rows(f"SELECT name FROM {entity}_history WHERE id = 'x00' ORDER BY valid_from") == [
        f"{entity} x00",
        "renamed",
    ]


def test_templates_are_stored_without_their_html_unless_that_is_chosen(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "templates", "T1", NOON, html=HTML, text="Hello")
    pipeline.run("templates", DAY)
    assert pipeline.one(
        "SELECT array_agg(key ORDER BY key) FROM templates, jsonb_object_keys(raw->'attributes') AS key"
    ) == [
        "created",
        "editor_type",
        "name",
        "updated",
    ]
    pipeline.configure(template_html=True)
    pipeline.run("templates_census")
    assert pipeline.stored("templates") == truth(shop, "templates")
    assert pipeline.one("SELECT raw #>> '{attributes,html}' FROM templates") == HTML


def test_metrics_are_listed_in_full_over_several_pages_with_their_integration(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    shop.largest_page = 3
    pipeline.run("metrics")
    query = "SELECT id, name, integration_name, integration_category FROM metrics WHERE deleted_at IS NULL ORDER BY id"
    expected = [(one.id, one.name, one.integration, one.category) for one in metrics().values()]
    assert pipeline.rows(query) == sorted(expected)
    shop.metrics["RPlacd"] = replace(shop.metrics["RPlacd"], name="Order placed")
    del shop.metrics["RCartd"]
    shop.category_is_object = False
    pipeline.run("metrics")
    assert pipeline.rows("SELECT id FROM metrics WHERE deleted_at IS NOT NULL") == ["RCartd"]
    names = pipeline.rows("SELECT name FROM metrics_history WHERE id = 'RPlacd' ORDER BY valid_from")
    assert names == ["Placed Order", "Order placed"]
    assert pipeline.rows("SELECT DISTINCT integration_category FROM metrics WHERE id LIKE 'R%%'") == [
        "Internal",
        "eCommerce",
    ]


def test_form_versions_are_listed_form_by_form_and_looked_up_when_their_form_is_gone(
    shop: SandboxAccount, pipeline: Pipeline
) -> None:
    put(shop, "forms", "F1", NOON, created_at=NOON, status="live", ab_test=True, versions=["11", "12"])
    put(shop, "forms", "F2", NOON, created_at=NOON, versions=["21"])
    put(shop, "forms", "F3", NOON, created_at=NOON, versions=[])
    with pipeline.requested() as requests:
        pipeline.run("form_versions")
    assert sorted(entry.path for entry in requests if "form-versions" in entry.path) == [
        f"/api/forms/{form}/form-versions" for form in ("F1", "F2", "F3")
    ]
    columns = "id, form_id, name, form_type, status, ab_test"
    assert pipeline.rows(f"SELECT {columns} FROM form_versions ORDER BY id") == [
        ("11", "F1", "Variation 1", "popup", "live", {"variation_name": "Variation 1"}),
        ("12", "F1", "Variation 2", "popup", "live", {"variation_name": "Variation 2"}),
        ("21", "F2", "Variation 1", "popup", "draft", None),
    ]
    put(shop, "forms", "F2", NOON, status="live")
    shop.delete("forms", "F1")
    pipeline.run("form_versions")
    assert pipeline.ids("form_versions") == ["21"]
    assert pipeline.rows("SELECT status FROM form_versions_history WHERE id = '21' ORDER BY valid_from") == [
        "draft",
        "live",
    ]


@pytest.mark.parametrize("asset", ["lists", "templates"])
def test_a_key_without_the_scope_is_one_clear_line(asset: str, shop: SandboxAccount, pipeline: Pipeline) -> None:
    shop.api_keys[key_of(shop)] -= {f"{asset}:read"}
    assert f"{asset}:read" in pipeline.fail(asset, DAY)
