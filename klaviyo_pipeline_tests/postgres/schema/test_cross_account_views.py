"""Views over all accounts: they follow the existing accounts, and touch nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.postgres.schema.cross_account_views import CrossAccountViewsRefused, refresh_cross_account_views
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.support import throw_away_database

# Reserved words of SQL: a missing quote fails.
SLUGS = ("order", "select", "shop")


def rows(database: str, query: str, *, role: str | None = None) -> list[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        if role:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def views(database: str) -> set[str]:
    found = rows(database, "SELECT viewname FROM pg_views WHERE schemaname = 'klaviyo_overview'")
    return {name for (name,) in found}


@pytest.fixture(scope="module")
def template(postgres_server: str) -> Iterator[str]:
    """URL of a database to copy, with three migrated accounts, each with its own flow on its own day."""
    with throw_away_database(postgres_server) as url:
        for number, slug in enumerate(SLUGS):
            migrate(url, slug, SQL_DIR)
            rows(
                url,
                f'INSERT INTO "{slug}".flow_metrics (flow_id, date, messages, recipients, observed_at) '
                f"VALUES ('f', '2025-03-01', 1, {number}, now())",
            )
        yield url


@pytest.fixture
def accounts(postgres_server: str, template: str) -> Iterator[str]:
    """A copy of the database that only this test uses."""
    with throw_away_database(postgres_server, template) as url:
        yield url


def test_every_account_is_in_each_view_under_its_slug(accounts: str) -> None:
    assert refresh_cross_account_views(accounts) == list(SLUGS)
    assert views(accounts) == {"accounts", "sync_status", "flow_metrics"}
    found = rows(accounts, "SELECT account, flow_id, recipients FROM klaviyo_overview.flow_metrics ORDER BY account")
    assert found == [("order", "f", 0), ("select", "f", 1), ("shop", "f", 2)]
    assets = rows(accounts, "SELECT account, count(*) FROM klaviyo_overview.sync_status GROUP BY 1 ORDER BY 1")
    assert [account for account, _ in assets] == list(SLUGS)
    assert len({count for _, count in assets}) == 1


def test_a_dropped_account_leaves_the_views_and_the_others_stay(accounts: str) -> None:
    refresh_cross_account_views(accounts)
    rows(accounts, 'DROP SCHEMA "select" CASCADE')
    assert refresh_cross_account_views(accounts) == ["order", "shop"]
    found = rows(accounts, "SELECT DISTINCT account FROM klaviyo_overview.flow_metrics ORDER BY 1")
    assert found == [("order",), ("shop",)]


def test_one_account_has_no_cross_account_views(database: str) -> None:
    migrate(database, "shop", SQL_DIR)
    assert refresh_cross_account_views(database) == ["shop"]
    assert rows(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'klaviyo_overview'") == []


def test_the_views_are_dropped_when_one_account_is_left(accounts: str) -> None:
    refresh_cross_account_views(accounts)
    rows(accounts, 'DROP SCHEMA "select", "order" CASCADE')
    refresh_cross_account_views(accounts)
    assert views(accounts) == set()


def test_an_account_that_is_a_migration_behind_is_in_the_views_with_the_shared_columns(accounts: str) -> None:
    rows(accounts, "ALTER TABLE shop.flow_metrics ADD COLUMN brand_new integer")
    refresh_cross_account_views(accounts)
    found = rows(accounts, "SELECT * FROM klaviyo_overview.flow_metrics WHERE account = 'shop'")
    assert len(found) == 1
    rows(accounts, 'ALTER TABLE "order".flow_metrics ADD COLUMN brand_new integer')
    rows(accounts, 'ALTER TABLE "select".flow_metrics ADD COLUMN brand_new integer')
    refresh_cross_account_views(accounts)
    assert rows(accounts, "SELECT brand_new FROM klaviyo_overview.flow_metrics") == [(None,)] * 3


def test_a_similar_schema_without_migrations_is_left_out(accounts: str) -> None:
    rows(accounts, "CREATE SCHEMA other CREATE TABLE account (id text) CREATE TABLE sync_status (id text)")
    rows(accounts, "CREATE TABLE other.flow_metrics (id text)")
    assert refresh_cross_account_views(accounts) == list(SLUGS)


def test_a_dependent_view_of_the_user_is_kept_and_the_refresh_is_refused(accounts: str) -> None:
    refresh_cross_account_views(accounts)
    rows(accounts, "CREATE VIEW public.mine AS SELECT * FROM klaviyo_overview.flow_metrics")
    for slug in SLUGS:
        rows(accounts, f'DROP VIEW IF EXISTS "{slug}".sync_status CASCADE')
    with pytest.raises(CrossAccountViewsRefused, match="klaviyo_overview were not updated"):
        refresh_cross_account_views(accounts)
    assert rows(accounts, "SELECT count(*) FROM public.mine") == [(3,)]
