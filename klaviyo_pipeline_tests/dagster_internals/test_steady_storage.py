"""Dagster's storage: sessions that ended while idle are reopened, and no server setting changes what it stores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.instance import InstanceRef

from klaviyo_pipeline.config.settings import PROJECT_ROOT
from klaviyo_pipeline.postgres.server.sessions import UnfitDatabase
from klaviyo_pipeline_tests.postgres.server.test_sessions import (
    ENVIRONMENT,
    NAME,
    ODD,
    end_sessions,
    narrow,
    plain,
    upset,
)

pytestmark = pytest.mark.slow

OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

__all__ = ["narrow"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_STATE_DIR", str(tmp_path / "state"))


def opened(database: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), config_dir=str(PROJECT_ROOT)))


def test_a_run_outlives_sessions_that_ended_while_they_were_idle(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    @dg.asset
    def slow() -> None:
        ended.append(end_sessions(database))

    with opened(database, tmp_path, monkeypatch) as found:
        # Sessions are kept between two uses, as in a sync and in the web server.
        found.optimize_for_webserver(60_000, pool_recycle=3600, max_overflow=4)
        found.get_runs()
        found.all_instigator_state()
        assert dg.materialize([slow], instance=found).success
        end_sessions(database)
        [run] = found.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS
        end_sessions(database)
        assert found.all_instigator_state() == []
    assert ended[0] > 0


def test_the_events_of_a_run_share_one_session_that_ends_with_the_instance(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset
    def named() -> None:
        pass

    with opened(database, tmp_path, monkeypatch) as found:
        assert found.run_storage._engine is found.event_log_storage._engine  # type: ignore[attr-defined]
        # What Dagster looks up once in a process, it may look up while the session is in use.
        assert dg.materialize([named], instance=found).success
        connected: list[object] = []
        sa.event.listen(found.run_storage._engine, "connect", lambda *_: connected.append(1))  # type: ignore[attr-defined]
        assert dg.materialize([named], instance=found).success
        assert connected == []
        assert plain(database, OTHER_SESSIONS) == [(1,)]
    assert plain(database, OTHER_SESSIONS) == [(0,)]


@pytest.fixture
def odd(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    upset(database, {name: value for name, value in ODD.items() if name != "search_path"})
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return database


def test_dagster_stores_the_same_whatever_the_sessions_default_settings(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)

    @dg.asset
    def named() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"name": NAME})

    with opened(odd, tmp_path, monkeypatch) as found:
        for _ in range(2):
            assert dg.materialize([named], instance=found).success
            found.optimize_for_webserver(60_000, pool_recycle=3600, max_overflow=4)
        event = found.get_latest_materialization_event(dg.AssetKey("named"))
        [record, _] = found.get_run_records()
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["name"].value == NAME
    assert abs((record.create_timestamp - began).total_seconds()) < 3600
    assert plain(
        odd,
        "SELECT count(*) FROM runs WHERE create_timestamp > now() - interval '1 hour' AND create_timestamp <= now()",
    ) == [(2,)]


def test_a_database_that_cannot_store_utf8_is_refused_before_dagster_creates_its_tables(
    narrow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnfitDatabase, match="has the encoding"):
        opened(narrow, tmp_path, monkeypatch)
    assert plain(narrow, "SELECT 1 FROM pg_tables WHERE tablename = 'runs'") == []
