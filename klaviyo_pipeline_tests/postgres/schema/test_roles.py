"""A database role for each account: it does all that a sync does, and reaches no other account."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from klaviyo_pipeline.config.settings import SQL_DIR, Account
from klaviyo_pipeline.postgres.schema.cross_account_views import CrossAccountViewsRefused, refresh_cross_account_views
from klaviyo_pipeline.postgres.schema.migrations import MigrationError, migrate, pending
from klaviyo_pipeline.postgres.warehouse import Warehouse

SLUGS = ("brand_a", "brand_b")


@pytest.fixture
def urls(database: str) -> Iterator[dict[str, str]]:
    """The URL of each account, whose role owns its schema and nothing else."""
    urls: dict[str, str] = {}
    with psycopg.connect(database, autocommit=True) as connection:
        for slug in SLUGS:
            role, password = f"{slug}_{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
            name = sql.Identifier(role)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(password)))
            connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(slug), name))
            parts = urlsplit(database)
            place = parts.netloc.rpartition("@")[2]
            urls[slug] = parts._replace(netloc=f"{role}:{password}@{place}").geturl()
        yield urls
        for url in urls.values():
            name = sql.Identifier(str(urlsplit(url).username))
            connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(name))


def test_each_role_migrates_and_reads_its_own_schema_and_no_other(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [Account(slug=slug, database_url_variable=f"URL_OF_{slug.upper()}") for slug in SLUGS]
    for slug, url in urls.items():
        monkeypatch.setenv(f"URL_OF_{slug.upper()}", url)
        assert migrate(url, slug, SQL_DIR)
    warehouse = Warehouse.of(accounts)
    with warehouse.engine("brand_a") as engine, engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM brand_a.flows")).scalar_one() == 0
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied for schema brand_b"):
            connection.execute(sa.text("SELECT count(*) FROM brand_b.flows"))


def test_the_views_are_made_by_a_role_that_may_read_all_and_refused_to_the_others_without_harm(
    urls: dict[str, str], database: str
) -> None:
    for slug, url in urls.items():
        migrate(url, slug, SQL_DIR)
    assert refresh_cross_account_views(urls["brand_a"]) == ["brand_a"]
    assert refresh_cross_account_views(database) == list(SLUGS)
    with pytest.raises(CrossAccountViewsRefused, match=r"klaviyo_overview stay as they are"):
        refresh_cross_account_views(urls["brand_a"])
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT DISTINCT account FROM klaviyo_overview.sync_status ORDER BY 1").fetchall()
    assert found == [(slug,) for slug in SLUGS]


@pytest.fixture
def other(urls: dict[str, str], database: str) -> str:
    """URL of a role that did not make the schema of `brand_a`, and may do nothing in it."""
    migrate(urls["brand_a"], "brand_a", SQL_DIR)
    return urls["brand_b"]


def name_of(url: str) -> str:
    return str(urlsplit(url).username)


def test_another_role_is_reported_the_owner_and_the_grant_which_then_helps(
    other: str, urls: dict[str, str], database: str
) -> None:
    grant = f'GRANT "{name_of(urls["brand_a"])}" TO "{name_of(other)}"'
    for look in (migrate, pending):
        with pytest.raises(MigrationError, match="owned by role") as refused:
            look(other, "brand_a", SQL_DIR)
        assert grant in str(refused.value)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(grant.encode())
    assert migrate(other, "brand_a", SQL_DIR) == []


def test_another_role_that_may_read_and_write_is_reported_the_owner_when_a_table_is_to_be_changed(
    other: str, urls: dict[str, str], database: str, tmp_path: Path
) -> None:
    owner, role = sql.Identifier(name_of(urls["brand_a"])), sql.Identifier(name_of(other))
    with psycopg.connect(database, autocommit=True) as connection:
        for grant in (
            "GRANT USAGE, CREATE ON SCHEMA brand_a TO {}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA brand_a TO {}",
        ):
            connection.execute(sql.SQL(grant).format(role))
    assert migrate(other, "brand_a", SQL_DIR) == []
    for file in SQL_DIR.glob("*.sql"):
        shutil.copy(file, tmp_path)
    number = len(list(tmp_path.iterdir())) + 1
    (tmp_path / f"{number:03}_more.sql").write_text("ALTER TABLE flows ADD COLUMN more text;")
    with pytest.raises(MigrationError, match=r"owned by role .*must be owner of table flows") as refused:
        migrate(other, "brand_a", tmp_path)
    assert sql.SQL("GRANT {} TO {}").format(owner, role).as_string() in str(refused.value)
