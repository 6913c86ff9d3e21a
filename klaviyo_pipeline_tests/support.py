"""Shared by the end-to-end tests: a simulated account, a database, and the pipeline's definitions."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.instance import InstanceRef
from psycopg import sql

from klaviyo_pipeline.config.settings import PROJECT_ROOT, SQL_DIR, Account
from klaviyo_pipeline.dagster_internals.storage import EVENT_BATCH_SIZE
from klaviyo_pipeline.orchestration.build import project_defs
from klaviyo_pipeline.orchestration.step_errors import step_errors
from klaviyo_pipeline.planning.planner import SyncRequest
from klaviyo_pipeline.postgres.engine import shared_engine
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline.postgres.warehouse import Warehouse
from klaviyo_pipeline.sandbox.campaign_resources import attributes_of
from klaviyo_pipeline.sandbox.campaign_tree import CampaignTrees
from klaviyo_pipeline.sandbox.entity_kinds import ENTITIES
from klaviyo_pipeline.sandbox.request_log import RequestLogEntry
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline.sandbox.shop import mapped_metrics, metrics
from klaviyo_pipeline.sync.account_sync import Sync
from klaviyo_pipeline.sync.asset_runs import AssetResult, ProgressCallback
from klaviyo_pipeline_tests.quick_instance import quick_instance

SLUG = "shop"
START = date(2025, 2, 1)
"""The first window of these accounts. It is far in the past, so that no test depends on the current date."""

FIRST_TO_COPY_FILES = 150000
"""The first version of Postgres whose CREATE DATABASE takes a strategy."""

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def utc(text: str) -> datetime:
    """A timestamp; without an offset it is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def empty_shop(timezone: str = "UTC", **options: Any) -> SandboxAccount:
    """An account with metrics only. Its key is unique, because the process caches the account of each key."""
    shop = SandboxAccount(id="SHOP01", timezone=timezone, metrics=metrics(), mapped_metrics=mapped_metrics(), **options)
    shop.api_keys = {f"pk_{uuid.uuid4().hex}": set(READ_SCOPES)}
    return shop


def put(shop: SandboxAccount, entity: str, id: str, updated: datetime | None, **attributes: Any) -> None:
    """Create or change an object, with this update time in Klaviyo."""
    shop.put(entity, id, **{"name": f"{entity} {id}", ENTITIES[entity].time_field: updated, **attributes})


def key_of(shop: SandboxAccount) -> str:
    """The account's private key."""
    return next(iter(shop.api_keys))


@cache
def definitions_of(account: Account) -> dg.Definitions:
    """The definitions of this account, built once for each process: as in a code location, they serve many runs."""
    return project_defs([account])


@dataclass
class Pipeline:
    """An account served over HTTP, the pipeline's definitions for it, and its migrated schema."""

    shop: SandboxAccount
    server: SandboxServer
    account: Account
    database: str
    instance: dg.DagsterInstance
    connection: psycopg.Connection[Any]
    checked: bool = False
    """Whether a run also evaluates the checks of its asset. Off by default, because checks have separate tests."""

    @property
    def definitions(self) -> dg.Definitions:
        return definitions_of(self.account)

    def configure(self, **settings: Any) -> None:
        """The same pipeline with changed settings of the account."""
        self.account = replace(self.account, **settings)

    def attempt(
        self, asset: str, first: str | None = None, last: str | None = None, config: Mapping[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """One run of one asset over the windows from `first` to `last`, inclusive."""
        key = dg.AssetKey([self.account.slug, asset])
        whole = self.definitions.resolve_implicit_global_asset_job_def()
        job = whole.get_subset(asset_selection={key}, asset_check_selection=None if self.checked else set())
        tags = dict(zip(RANGE, (first, last or first), strict=True)) if first else {}
        return job.execute_in_process(
            instance=self.instance,
            tags={name: value for name, value in tags.items() if value},
            run_config={
                "ops": {f"{self.account.slug}__{asset}": {"config": dict(config)}} if config else {},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )

    def run(
        self, asset: str, first: str | None = None, last: str | None = None, **config: Any
    ) -> dg.ExecuteInProcessResult:
        """Like `attempt`, but the run must succeed."""
        result = self.attempt(asset, first, last, config)
        assert result.success, reason(result)
        return result

    def fail(self, asset: str, first: str | None = None, last: str | None = None, **config: Any) -> str:
        """Like `attempt`, but the run must fail. Returns the reason."""
        result = self.attempt(asset, first, last, config)
        assert not result.success, f"{asset} should have failed"
        return reason(result)

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        """The rows of a query in the account's schema; plain values if the query has a single column."""
        cursor = self.connection.execute(_trusted(query), parameters or None)
        found = cursor.fetchall()
        return [row[0] for row in found] if cursor.description and len(cursor.description) == 1 else found

    def execute(self, statement: str) -> None:
        self.connection.execute(_trusted(statement))

    def one(self, query: str, *parameters: Any) -> Any:
        [found] = self.rows(query, *parameters)
        return found

    def ids(self, entity: str) -> list[str]:
        """The ids of the table's rows that are not deleted."""
        return self.rows(f"SELECT id FROM {entity} WHERE deleted_at IS NULL ORDER BY id")

    def stored(self, entity: str) -> dict[str, Any]:
        """Every row of the table that is not deleted, in the format of `truth`."""
        names = ", ".join(compared(entity))
        found = self.rows(f"SELECT {names}, raw->'attributes' FROM {entity} WHERE deleted_at IS NULL ORDER BY id")
        return {row[0]: row[1:] for row in found}

    def ledger(self, entity: str) -> list[Any]:
        """Day and status of every window in the ledger."""
        zone = self.account.timezone
        return self.rows(
            "SELECT to_char(window_start AT TIME ZONE %s, 'YYYY-MM-DD'), status FROM sync_windows "
            "WHERE entity = %s ORDER BY window_start",
            zone,
            entity,
        )

    def versions(self, *tables: str) -> dict[str, list[Any]]:
        """The physical version of every row. Any write changes it, even with the same content."""
        return {table: self.rows(f"SELECT xmin::text, ctid::text FROM {table} ORDER BY ctid") for table in tables}

    @contextmanager
    def requested(self) -> Iterator[list[RequestLogEntry]]:
        """The requests received while the block runs, in a list that is filled when the block ends."""
        before = len(self.server.requests)
        came: list[RequestLogEntry] = []
        yield came
        came.extend(self.server.requests[before:])


def compared(entity: str) -> tuple[str, ...]:
    """The columns of `truth` and `Pipeline.stored` other than the attributes."""
    more = {"flows": ("archived",), "campaigns": ("archived", "channel")}
    return ("id", "name", "updated_at", *more.get(entity, ()))


def truth(shop: SandboxAccount, entity: str, since: datetime | None = None, until: datetime | None = None) -> Any:
    """The account's current objects by id; with bounds, those that were updated in [since, until)."""
    declared = ENTITIES[entity]
    found = {}
    for id, attributes, channel in _present(shop, entity):
        reported = attributes[declared.time_field]
        updated = utc(reported.replace(" ", "T")) if reported else None
        if since and until and (updated is None or not since <= updated < until):
            continue
        named = attributes["definition"] if entity == "campaigns" else attributes
        values: list[Any] = [named["name"], updated]
        if "archived" in named:
            values.append(named["archived"])
        if entity == "campaigns":
            values.append(channel)
        found[id] = (*values, attributes)
    return dict(sorted(found.items()))


def _present(shop: SandboxAccount, entity: str) -> Iterator[tuple[str, Any, str | None]]:
    """The id and attributes of every object that exists; and the channel of a campaign."""
    if entity != "campaigns":
        for output in shop.objects[entity].values():
            if (attributes := output.at(shop.clock())) is not None:
                yield output.id, attributes, None
        return
    trees = CampaignTrees(shop, shop.clock())
    for campaign in trees.all("campaigns"):
        words = trees.channels(campaign)
        yield campaign.id, attributes_of(campaign), words[0].replace("push", "mobile_push") if words else None


def reason(result: dg.ExecuteInProcessResult) -> str:
    """The reason of a failed run: the message of the root cause of its first error."""
    for event in result.all_events:
        if event.is_step_failure:
            errors = step_errors(event)
            return errors[-1].message.strip() if errors else "the step has no error"
    return "no step failed"


@cache
def usual_port() -> int:
    """A port that was free. Accounts with the same URL share their definitions."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def served(shop: SandboxAccount) -> Iterator[SandboxServer]:
    """The account over HTTP, without limits: on this process's usual port, or another one if that is in use."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(SandboxServer(shop, usual_port(), rate_scale=0))
        except OSError:
            server = stack.enter_context(SandboxServer(shop, rate_scale=0))
        yield server


def run_sync(
    account: Account, request: SyncRequest, on_progress: ProgressCallback = lambda line: None
) -> list[AssetResult]:
    """The results of a sync, in the instance of `DAGSTER_HOME`."""
    with dg.DagsterInstance.get() as instance:
        return Sync(account, Warehouse(), on_progress).run(instance, request)


def hide_settings(patch: pytest.MonkeyPatch) -> None:
    """Hide the developer's `KLAVIYO_*` variables, Dagster instance and `.env`.

    Every test does so. A fixture of a module that runs syncs in this process is set up earlier, and has to do it too.
    """
    for name in list(os.environ):
        if name.startswith("KLAVIYO_") or name == "DAGSTER_HOME":
            patch.delenv(name)
    patch.setenv("KLAVIYO_IGNORE_DOTENV", "1")
    # As in a user's processes: the events of many windows are stored in one statement.
    patch.setenv("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE)


@contextmanager
def pipeline_on(
    database: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Iterator[Pipeline]:
    """Serve `shop`, migrate its schema in `database`, and put both into the environment.

    Charts are not drawn: each takes longer than the rest of its run.
    """
    migrate(database, SLUG, SQL_DIR)
    monkeypatch.setattr("klaviyo_pipeline.reporting.charts.png", lambda panels, digest: b"PNG " + digest.encode())
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", database)
    monkeypatch.setenv("KLAVIYO_API_KEY", key_of(shop))
    reported: dict[str, Any] = {"slug": SLUG, "timezone": shop.timezone, "start_date": START, "rate_scale": 0.0}
    with (
        served(shop) as server,
        quick_instance() as instance,
        psycopg.connect(database, autocommit=True, options=f"-csearch_path={SLUG}") as connection,
        # The runs share it, as in a sync. Alone, each would read the catalog and compile its statements again.
        shared_engine(database),
    ):
        account = Account(**{**reported, "api_url": server.url, **settings})
        yield Pipeline(shop, server, account, database, instance, connection)


@contextmanager
def recorded_pipeline(
    database: str, home: Path, monkeypatch: pytest.MonkeyPatch, shop: SandboxAccount | None = None
) -> Iterator[Pipeline]:
    """A pipeline on an account (default: an empty one). Its runs are recorded in Postgres, in the schema `public`.

    The captured output of steps is in `home`, the `DAGSTER_HOME`.
    """
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)
    ref = InstanceRef.from_dir(str(dagster_home(home)))
    account = shop or empty_shop()
    with pipeline_on(database, account, monkeypatch) as pipeline, dg.DagsterInstance.from_ref(ref) as instance:
        # Otherwise Dagster opens a connection for each operation.
        instance.optimize_for_webserver(60_000, pool_recycle=3600, max_overflow=4)
        yield replace(pipeline, instance=instance)


def _trusted(query: str) -> LiteralString:
    return query


@contextmanager
def throw_away_database(server: str, template: str | None = None) -> Iterator[str]:
    """The libpq URL of a database on the server, which exists while the block runs: empty, or a copy of `template`.

    `template` is the URL of a database without connections. Copying its files is much faster than migrating.
    """
    name = f"test_{uuid.uuid4().hex}"
    of = urlsplit(template).path[1:] if template else "template0"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(sql.Identifier(name), sql.Identifier(of))
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.info.server_version >= FIRST_TO_COPY_FILES:
            create += sql.SQL(" STRATEGY FILE_COPY")
        connection.execute(create)
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(drop)


def dagster_home(folder: Path) -> Path:
    """A `DAGSTER_HOME` with the project's configuration, except that the files are in `folder`."""
    configuration = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())
    for name in ("local_artifact_storage", "compute_logs"):
        configuration.pop(name, None)
    (folder / "dagster.yaml").write_text(yaml.safe_dump(configuration))
    return folder


def environment(shop: SandboxAccount, url: str, database: str, home: Path) -> dict[str, str]:
    """The environment for a sync of this account into this database, which also has Dagster's tables."""
    return {
        "KLAVIYO_ACCOUNT": SLUG,
        "KLAVIYO_API_KEY": key_of(shop),
        "KLAVIYO_API_URL": url,
        "KLAVIYO_DATABASE_URL": database,
        "KLAVIYO_DAGSTER_DATABASE_URL": database,
        "KLAVIYO_IGNORE_DOTENV": "1",
        "KLAVIYO_RATE_SCALE": "0",
        "KLAVIYO_START_DATE": "2025-03-01",
        "KLAVIYO_TIMEZONE": shop.timezone,
        "DAGSTER_HOME": str(dagster_home(home)),
    }
