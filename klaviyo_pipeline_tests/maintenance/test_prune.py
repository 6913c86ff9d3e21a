"""Pruning deletes logs and operational records, and nothing that the UI, the ledger or a query needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.maintenance.prune import Pruned, prune
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import (
    SLUG,
    Pipeline,
    hide_settings,
    key_of,
    put,
    recorded_pipeline,
    throw_away_database,
    utc,
)

pytestmark = pytest.mark.slow

FLOWS = dg.AssetKey([SLUG, "flows"])
CENSUS = dg.AssetKey([SLUG, "flows_census"])
OWN = ("runs", "run_tags", "event_logs", "asset_event_tags", "asset_check_executions", "job_ticks")
DATA = ("flows", "flows_superseded", "sync_windows", "account")


@dataclass(frozen=True)
class Old:
    """A database to copy, the captured output of its runs, and their account."""

    database: str
    storage: Path
    shop: SandboxAccount


def pruned(pipeline: Pipeline, days: int = 90, *, dry_run: bool = False) -> Pruned:
    engine = create_engine(pipeline.database)
    try:
        reported: list[str] = []
        return prune(pipeline.account, engine, pipeline.instance, reported.append, days=days, dry_run=dry_run)
    finally:
        engine.dispose()


def age(pipeline: Pipeline, days: int) -> None:
    """Make every record this many days older."""
    pipeline.execute(f"UPDATE public.runs SET update_timestamp = update_timestamp - interval '{days} days'")
    pipeline.execute(f"UPDATE public.job_ticks SET timestamp = timestamp - interval '{days} days'")
    pipeline.execute(f"UPDATE census_runs SET started_at = started_at - interval '{days} days'")
    pipeline.execute(f"UPDATE api_calls SET last_at = last_at - interval '{days} days'")
    pipeline.execute(f"UPDATE lookup_misses SET missed_at = missed_at - interval '{days} days'")


def sizes(pipeline: Pipeline) -> dict[str, int]:
    return {name: pipeline.one(f"SELECT count(*) FROM public.{name}") for name in OWN}


def output(pipeline: Pipeline, *, cached: bool) -> dict[str, Any]:
    """The UI's view of the flows: windows, last materializations, checks."""
    instance = pipeline.instance
    if not cached:
        instance.wipe_asset_cached_status([FLOWS])
    plan = pipeline.definitions.resolve_asset_graph().get(FLOWS).partitions_def
    assert plan is not None
    status = get_and_update_asset_status_cache_value(instance, FLOWS, plan)
    assert status is not None
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        FLOWS, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    records = instance.fetch_materializations(FLOWS, limit=1000).records
    metadata = {
        record.storage_id: record.asset_materialization.metadata if record.asset_materialization else None
        for record in records
        if record.storage_id in latest.values()
    }
    checks = pipeline.definitions.resolve_asset_graph().asset_check_keys
    executions = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    census = instance.get_latest_materialization_event(CENSUS)
    return {
        "materialized": sorted(status.deserialize_materialized_partition_subsets(plan).get_partition_keys()),
        "failed": sorted(status.deserialize_failed_partition_subsets(plan).get_partition_keys()),
        "in progress": sorted(status.deserialize_in_progress_partition_subsets(plan).get_partition_keys()),
        "latest": latest,
        "metadata": metadata,
        "checks": {key: (one.run_id, one.status) for key, one in executions.items()},
        "census": census and census.run_id,
    }


def live(recorded: Pipeline) -> None:
    """Overlapping runs, a failed run, two censuses with their checks, and ticks, all 100 days old."""
    for day in range(1, 9):
        put(recorded.shop, "flows", f"f{day}", utc(f"2025-02-{day:02}T12:00:00"))
    recorded.run("flows", "2025-02-01", "2025-02-06")
    recorded.run("flows", "2025-02-04", "2025-02-07")
    keys, recorded.shop.api_keys = recorded.shop.api_keys, {}
    recorded.fail("flows", "2025-02-07", "2025-02-08")
    recorded.shop.api_keys = keys
    for _ in range(2):
        replace(recorded, checked=True).run("flows_census")
    now = datetime.now(UTC).timestamp()
    for _ in range(2):
        schedule = ("origin", "daily", InstigatorType.SCHEDULE, TickStatus.SUCCESS)
        recorded.instance.create_tick(TickData(*schedule, now, selector_id="one", run_ids=[]))
    recorded.execute("INSERT INTO lookup_misses VALUES ('flows', 'gone', now())")
    age(recorded, 100)


@pytest.fixture(scope="module")
def old(postgres_server: str, recorded_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    folder = tmp_path_factory.mktemp("old")
    with throw_away_database(postgres_server, recorded_template) as url:
        with pytest.MonkeyPatch.context() as patch:
            hide_settings(patch)
            with recorded_pipeline(url, folder, patch) as pipeline:
                live(pipeline)
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            # Dagster leaves its sessions open, and a database with sessions cannot be copied.
            sessions = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(sessions, [urlsplit(url).path[1:]])
        yield Old(url, folder / "storage", pipeline.shop)


@pytest.fixture
def lived_in(postgres_server: str, old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """The account of `live`, in a database and a folder that only this test uses."""
    shutil.copytree(old.storage, tmp_path / "storage")
    with (
        throw_away_database(postgres_server, old.database) as url,
        recorded_pipeline(url, tmp_path, monkeypatch, old.shop) as pipeline,
    ):
        yield pipeline


def test_the_ui_shows_every_window_unchanged_after_pruning(lived_in: Pipeline) -> None:
    before = output(lived_in, cached=True)
    assert before["materialized"] == [f"2025-02-{day:02}" for day in range(1, 8)]
    assert before["failed"] == ["2025-02-08"]
    data = lived_in.versions(*DATA)
    events = sizes(lived_in)["event_logs"]
    removed = pruned(lived_in)
    assert removed.runs is not None
    assert removed.runs.events > events / 2
    assert output(lived_in, cached=True) == before
    assert output(lived_in, cached=False) == before
    assert lived_in.versions(*DATA) == data


def test_an_old_run_keeps_the_events_that_no_later_run_superseded(lived_in: Pipeline) -> None:
    pruned(lived_in)
    kept = lived_in.rows(
        "SELECT partition, count(*) FROM public.event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' "
        "AND asset_key LIKE '%flows\"]' GROUP BY partition ORDER BY partition"
    )
    assert kept == [(f"2025-02-{day:02}", 1) for day in range(1, 8)]
    assert lived_in.rows("SELECT DISTINCT dagster_event_type FROM public.event_logs WHERE step_key IS NULL") != []
    assert lived_in.one("SELECT count(*) FROM public.event_logs WHERE dagster_event_type LIKE 'STEP_%'") == 0
    # The second census superseded the first and its checks, so the first run is deleted.
    assert lived_in.one("SELECT count(*) FROM public.runs") == 4
    assert lived_in.rows("SELECT status, count(*) FROM census_runs GROUP BY status") == [("complete", 1)]
    assert lived_in.rows("SELECT id FROM lookup_misses") == []
    assert lived_in.one("SELECT count(*) FROM public.job_ticks") == 1


def test_a_dry_run_counts_the_records_and_deletes_nothing(lived_in: Pipeline) -> None:
    before = sizes(lived_in)
    reported = pruned(lived_in, dry_run=True).counts()
    assert sizes(lived_in) == before
    assert reported == pruned(lived_in).counts()
    assert reported["runs"] == 1
    assert (
        min(
            reported[kind] for kind in ("events", "check_results", "ticks", "api_calls", "census_runs", "lookup_misses")
        )
        > 0
    )
    again = pruned(lived_in).counts()
    assert again == {**dict.fromkeys(reported, 0), "thinned": reported["thinned"]}


def test_runs_within_the_retention_and_unfinished_runs_keep_everything(lived_in: Pipeline) -> None:
    before = sizes(lived_in)
    assert set(pruned(lived_in, days=101).counts().values()) == {0}
    assert sizes(lived_in) == before
    lived_in.execute("UPDATE public.runs SET status = 'STARTED'")
    assert pruned(lived_in).counts()["events"] == 0


def test_the_captured_output_of_an_old_run_is_deleted_from_disk(lived_in: Pipeline, tmp_path: Path) -> None:
    run_ids = lived_in.rows("SELECT run_id FROM public.runs")
    assert sorted(path.name for path in (tmp_path / "storage").iterdir()) == sorted(run_ids)
    assert pruned(lived_in).counts()["compute_logs"] >= len(run_ids)
    assert list((tmp_path / "storage").iterdir()) == []


def test_the_command_prunes_by_the_setting_and_reports_the_counts(
    lived_in: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLAVIYO_ACCOUNT", SLUG)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("KLAVIYO_RETENTION_DAYS", "120")
    reported = []
    for arguments in (["prune"], ["prune", "--older-than", "99", "--dry-run"], ["prune", "--older-than", "99"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--format", "json"])
        assert ended.value.code == 0
        reported.append(json.loads(capsys.readouterr().out))
    assert [one["events"] > 0 for one in reported] == [False, True, True]
    assert reported[1] == {**reported[2], "dry_run": True, "before": reported[1]["before"]}
    age = datetime.now(UTC) - datetime.fromisoformat(reported[0]["before"])
    assert timedelta(days=119) < age < timedelta(days=121)


def test_the_job_prunes_and_keeps_its_own_run(lived_in: Pipeline) -> None:
    job = lived_in.definitions.resolve_job_def(f"{SLUG}_prune")
    result = job.execute_in_process(instance=lived_in.instance)
    assert result.success
    assert lived_in.one("SELECT count(*) FROM public.event_logs WHERE run_id = %s", result.run_id) > 5
    assert set(pruned(lived_in).counts().values()) - {0} == {pruned(lived_in).counts()["thinned"]}
    assert key_of(lived_in.shop) not in str(lived_in.rows("SELECT event FROM public.event_logs"))


def test_runs_in_another_storage_are_not_pruned_but_the_system_tables_are(recorded: Pipeline) -> None:
    recorded.execute("INSERT INTO lookup_misses VALUES ('flows', 'gone', now() - interval '91 days')")
    with dg.DagsterInstance.ephemeral() as elsewhere:
        reported = pruned(replace(recorded, instance=elsewhere))
    assert reported.runs is None
    assert reported.rows["lookup_misses"] == 1
