"""A column that a user added to a table is left alone: it breaks nothing and keeps its values."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from klaviyo_pipeline.catalog import METRICS, period_column, period_of
from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.orchestration.assets.frames import table_frame
from klaviyo_pipeline.postgres.metrics_tables import Metrics
from klaviyo_pipeline.postgres.schema.cross_account_views import refresh_cross_account_views
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.write.repositories import EntityRepository
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, days, figures, flow, frame, minute

TABLES = [
    *("flows", "flows_superseded", "flow_report", "flow_report_superseded"),
    *METRICS,
    *("campaign_report", "form_report", "segment_report"),
]


@pytest.fixture
def noted(store: Store) -> Store:
    """A store with the user's own columns: of a type without equality, of a name in several tables, generated."""
    for table in TABLES:
        store.run(f"ALTER TABLE {table} ADD COLUMN note text DEFAULT 'mine', ADD COLUMN extra json")
    store.run("ALTER TABLE flows_superseded ADD COLUMN only_here int DEFAULT 7")
    store.run("ALTER TABLE flows ADD COLUMN short text GENERATED ALWAYS AS (left(name, 3)) STORED")
    return store


def test_metrics_are_computed_into_a_table_with_columns_of_the_user(noted: Store) -> None:
    noted.merge(
        "flow_report", [figures("F1", date(2025, 3, 1), minute(0), delivered=7)], replaces=days(0, 0, minute(0))
    )
    for name, table in METRICS.items():
        if period_of(name) != "day":
            continue
        metrics = Metrics(SLUG, table)
        with noted.engine.connect() as connection:
            rows = metrics.compute(connection, date(2025, 3, 1), date(2025, 3, 1))
            written = table_frame(rows, metrics.columns(connection))
        replaced = replace(days(0, 0, minute(1)), column=period_column(name))
        assert noted.merge(name, written, replaces=replaced).inserted == (name == "flow_metrics")
    assert noted.rows("SELECT delivered, note, extra FROM flow_metrics") == [(7, "mine", None)]


def test_rows_are_updated_archived_and_deleted_beside_columns_of_the_user(noted: Store) -> None:
    noted.merge("flows", [flow("F1", minute(0), name="one")])
    noted.run("UPDATE flows SET note = 'kept', extra = '[1]'")
    noted.merge("flows", [flow("F1", minute(1), name="two")])
    EntityRepository(noted.engine, SLUG, "flows", {}).delete(["F1"], minute(2))
    assert noted.rows("SELECT name, note, extra, short, deleted_at FROM flows") == [
        ("two", "kept", [1], "two", minute(2))
    ]
    assert noted.rows("SELECT name, note, extra, only_here FROM flows_superseded ORDER BY valid_from") == [
        ("one", "mine", None, 7),
        ("two", "mine", None, 7),
    ]
    report = frame([figures("F1", date(2025, 3, 1), minute(0))])
    for time, rows in ((0, report), (1, report.iloc[:0])):
        noted.merge("flow_report", rows, replaces=days(0, 0, minute(time)))
    assert noted.rows("SELECT flow_id, note FROM flow_report_superseded") == [("F1", "mine")]


def test_an_object_is_read_without_columns_of_the_user(noted: Store) -> None:
    noted.merge("flows", [flow("F1", minute(0))])
    row = EntityRepository(noted.engine, SLUG, "flows", {}).get("F1")
    assert row is not None
    assert {"note", "extra", "short"} & row.keys() == set()


def test_a_column_with_different_types_in_two_accounts_prevents_no_view(noted: Store) -> None:
    migrate(noted.dsn, "another", SQL_DIR)
    noted.run("ALTER TABLE another.flow_metrics ADD COLUMN note int")
    assert refresh_cross_account_views(noted.dsn) == ["another", SLUG]
