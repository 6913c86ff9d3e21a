"""Dagster's instance: where it is stored, and that it passes on no secrets."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from dagster._core.instance import InstanceRef
from dagster._core.instance.config import PoolGranularity
from dagster_shared.serdes import deserialize_value, serialize_value
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, make_url, text

from klaviyo_pipeline.config.settings import PROJECT_ROOT, SettingsError
from klaviyo_pipeline.dagster_internals import storage, storage_url
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.conftest import THROW_AWAY
from klaviyo_pipeline_tests.pooler import MISSING, PROGRAM, transaction_pooler

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's state folder, moved to a temporary place."""
    monkeypatch.setenv("KLAVIYO_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def warehouse(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The warehouse's URL, set in the environment. A database created for Dagster is dropped."""
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", database)
    yield database
    beside = sql.Identifier(f"{dbname(database)}_dagster")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(beside))


@pytest.fixture
def guest(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The warehouse's URL, with a role that may not create databases."""
    role = f"guest_{secrets.token_hex(6)}"
    parts = urlsplit(warehouse)
    url = parts._replace(netloc=f"{role}:p%40ss%2Fw@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(warehouse, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p@ss/w' NOCREATEDB").format(sql.Identifier(role)))
        monkeypatch.setenv("KLAVIYO_DATABASE_URL", url)
        yield url
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def dbname(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])


def allow_schemas(warehouse: str, guest: str) -> None:
    role = sql.Identifier(urlsplit(guest).username or "")
    with psycopg.connect(warehouse) as connection:
        grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}")
        connection.execute(grant.format(sql.Identifier(dbname(warehouse)), role))


def one(url: str, query: str) -> object:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(text(query)).scalar()
    engine.dispose()
    return found


def project_ref(folder: Path) -> InstanceRef:
    return InstanceRef.from_dir(str(folder), config_dir=str(PROJECT_ROOT))


def test_dagsters_own_url_wins(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", "postgresql://me:s%2Fx@db.example:6543/runs?sslmode=require")
    url = make_url(storage_url.storage_url())
    assert (url.drivername, url.username, url.password, url.database) == ("postgresql+psycopg2", "me", "s/x", "runs")
    assert dict(url.query) == {"host": "db.example", "port": "6543", "sslmode": "require"}


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("a,b:5433", "a,b", ",5433"), ("[::1]:5433", "::1", "5433"), ("%2Fvar%2Frun", "/var/run", None)],
)
def test_several_hosts_ipv6_and_sockets_are_kept_in_the_url(
    address: str, host: str, port: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", f"postgresql://me@{address}/runs")
    url = make_url(storage_url.storage_url())
    assert url.query["host"] == host
    assert url.query.get("port") == port


@pytest.mark.parametrize("variable", ["KLAVIYO_DATABASE_URL", "KLAVIYO_DAGSTER_DATABASE_URL"])
@pytest.mark.parametrize("url", ["postgresql://me:hush/hush@host:5432/db", "postgresql://me:hush@host/db?hush=1"])
def test_an_error_about_an_invalid_url_names_the_variable_but_not_the_password(
    variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(SettingsError, match=f"^{variable} is not a valid URL") as caught:
        storage_url.storage_url()
    assert "hush" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_unreachable_server_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", "postgresql://me:hush@127.0.0.1:1/db")
    with pytest.raises(SettingsError, match=r"^KLAVIYO_DATABASE_URL: the server cannot be reached") as caught:
        storage_url.storage_url()
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dagster_gets_its_own_database_on_the_warehouses_server(warehouse: str) -> None:
    url = storage_url.storage_url()
    assert one(url, "SELECT current_database()") == f"{dbname(warehouse)}_dagster"
    assert storage_url.storage_url() == url


def test_without_the_right_to_create_databases_dagster_uses_a_schema_of_the_warehouse(
    warehouse: str, guest: str, tmp_path: Path
) -> None:
    allow_schemas(warehouse, guest)
    url = storage_url.storage_url()
    assert one(url, "SELECT current_database() || '.' || current_schema()") == f"{dbname(warehouse)}.dagster"
    with dg.DagsterInstance.from_ref(project_ref(tmp_path)) as found:
        found.optimize_for_webserver(statement_timeout=5000, pool_recycle=60, max_overflow=2)
        assert found.get_runs() == []
    with psycopg.connect(warehouse) as connection:
        rows = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'runs'").fetchall()
    assert rows == [("dagster",)]


def test_a_schema_in_use_stays_in_use_when_the_role_gets_more_rights(warehouse: str, guest: str) -> None:
    allow_schemas(warehouse, guest)
    before = storage_url.storage_url()
    with psycopg.connect(warehouse) as connection:
        role = sql.Identifier(urlsplit(guest).username or "")
        connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(role))
    assert storage_url.storage_url() == before


def test_a_schema_for_dagster_of_another_role_is_reported_with_its_owner_and_without_blaming_a_pooler(
    warehouse: str, guest: str
) -> None:
    with psycopg.connect(warehouse, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster")
        owner = connection.info.user
        role = str(urlsplit(guest).username)
        for function in (storage_url.storage_url, storage_url.found_storage_url):
            with pytest.raises(SettingsError, match=r"schema dagster .* is owned by role") as refused:
                function()
            assert f'GRANT "{owner}" TO "{role}"' in str(refused.value)
            assert "pooler" not in str(refused.value)


def test_dagsters_tables_of_another_role_are_reported_with_their_owner_and_the_grant_helps(
    warehouse: str, guest: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", warehouse)
    with dg.DagsterInstance.from_ref(project_ref(tmp_path)) as found:
        found.get_runs()
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", guest)
    with psycopg.connect(warehouse, autocommit=True) as connection:
        grant = f'GRANT "{connection.info.user}" TO "{urlsplit(guest).username}"'
        with pytest.raises(SettingsError, match="is owned by role") as refused:
            storage_url.storage_url()
        assert grant in str(refused.value)
        assert "pooler" not in str(refused.value)
        connection.execute(grant.encode())
    assert storage_url.storage_url()


def test_an_error_about_a_role_that_may_create_neither_names_the_setting_that_helps(guest: str) -> None:
    with pytest.raises(SettingsError, match=r"neither a database nor a schema.*KLAVIYO_DAGSTER_DATABASE_URL"):
        storage_url.storage_url()


def test_without_any_url_the_embedded_server_is_started(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedPostgres(server_folder / "instance", settings=THROW_AWAY)
    monkeypatch.setattr(storage_url, "project_server", lambda: server)
    try:
        assert one(storage_url.storage_url(), "SELECT current_database()") == "dagster"
        assert server.running
    finally:
        server.stop()


def test_a_run_is_stored_in_postgres_and_its_files_in_the_state_folder(
    database: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)

    @dg.asset
    def hello() -> None:
        print("hello from the step")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with dg.DagsterInstance.from_ref(project_ref(elsewhere)) as found:
        assert dg.materialize([hello], instance=found).success
        assert found.storage_directory() == str(state / "dagster" / "storage")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("SUCCESS",)]
    assert "hello from the step" in "".join(path.read_text() for path in state.rglob("*.out"))
    assert list(elsewhere.iterdir()) == []


def test_the_instance_reference_for_other_processes_rebuilds_the_storage_and_contains_no_url(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)
    with dg.DagsterInstance.from_ref(project_ref(tmp_path)) as found:
        handed_on = serialize_value(found.get_ref())
        output = found.info_str()
    for words in (handed_on, output):
        assert urlsplit(database).netloc not in words
        assert "postgresql" not in words
    with dg.DagsterInstance.from_ref(deserialize_value(handed_on, InstanceRef)) as again:
        assert again.get_runs() == []


def test_the_configuration_limits_load_and_retries_no_failed_asset(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)
    with dg.DagsterInstance.from_ref(project_ref(tmp_path)) as found:
        assert found.run_monitoring_enabled
        assert found.run_monitoring_settings["free_slots_after_run_end_seconds"] > 0
        assert found.get_concurrency_config().pool_config.pool_granularity is PoolGranularity.OP
        assert found.run_retries_enabled
        assert found.run_retries_retry_on_asset_or_op_failure is False
        assert found.telemetry_enabled is False


def test_a_dagster_home_with_its_own_configuration_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert storage.home() == tmp_path
    assert storage.use_project_instance() == tmp_path


@pytest.mark.parametrize("value", [None, "", "/nowhere", "empty"])
def test_a_dagster_home_without_configuration_is_replaced_by_the_projects(
    value: str | None, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.setenv("DAGSTER_HOME", "to be restored")
        monkeypatch.delenv("DAGSTER_HOME")
    else:
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path) if value == "empty" else value)
    assert storage.home() == PROJECT_ROOT
    assert storage.use_project_instance() == state / "dagster"
    assert os.environ["DAGSTER_HOME"] == str(state / "dagster")
    assert (state / "dagster" / "dagster.yaml").resolve() == PROJECT_ROOT / "dagster.yaml"
    assert storage.use_project_instance() == (state / "dagster").resolve()


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.parametrize(
    ("more", "reported"),
    [
        pytest.param("", "unsupported startup parameter", id="refused"),
        pytest.param("ignore_startup_parameters = options", "drops search_path", id="dropped"),
    ],
)
def test_a_pooler_that_does_not_pass_on_the_schema_is_reported_in_one_line(
    warehouse: str, guest: str, server_folder: Path, monkeypatch: pytest.MonkeyPatch, more: str, reported: str
) -> None:
    allow_schemas(warehouse, guest)
    with transaction_pooler(guest, server_folder, pool_size=2, more=more) as pooled:
        monkeypatch.setenv("KLAVIYO_DATABASE_URL", pooled)
        with pytest.raises(SettingsError, match=rf"{reported}.*set KLAVIYO_DAGSTER_DATABASE_URL") as error:
            storage_url.storage_url()
    assert "\n" not in str(error.value)
    assert "p@ss/w" not in str(error.value)


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_pooler_of_only_the_warehouses_database_is_reported_in_one_line(
    warehouse: str, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction_pooler(warehouse, server_folder, pool_size=2, databases=dbname(warehouse)) as pooled:
        monkeypatch.setenv("KLAVIYO_DATABASE_URL", pooled)
        with pytest.raises(SettingsError, match=r"no such database.*set KLAVIYO_DAGSTER_DATABASE_URL"):
            storage_url.storage_url()
