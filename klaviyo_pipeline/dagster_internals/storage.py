"""The storage of this project's Dagster instance: runs and events in Postgres, files in `.klaviyo/dagster`.

`dagster.yaml` names the three classes below without any configuration. They determine their location themselves,
whatever the working directory. Dagster needs only their names to create them in a process, so no URL and no password
is displayed in the UI or passed to another process.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData

from klaviyo_pipeline.config.extras import naming_extra
from klaviyo_pipeline.config.settings import FILES, IS_CHECKOUT, STATE_VARIABLE, load_dotenv_file, state_dir
from klaviyo_pipeline.dagster_internals.storage_url import OWN_URL, check_tables, reached, storage_url

with naming_extra("Dagster's storage in Postgres"):
    from dagster_postgres import DagsterPostgresStorage

    from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage
    from klaviyo_pipeline.dagster_internals.run_storage import ProjectRunStorage
    from klaviyo_pipeline.dagster_internals.steady_storage import SteadyScheduleStorage, kept_session

# A run over a year has events for each of its windows. They are stored in batches of this size.
EVENT_BATCH_SIZE = "1000"

TABLES = ("runs", "instance_info", "event_logs", "jobs")
"""If one of these tables is missing, Dagster's storages create all tables that they need."""


_is_uncaptured: ContextVar[bool] = ContextVar("without_output_capture", default=False)


def home() -> Path:
    """The folder whose `dagster.yaml` is used: `DAGSTER_HOME` if it contains one, else the project's own."""
    chosen = os.environ.get("DAGSTER_HOME", "").strip()
    if chosen and (Path(chosen).expanduser() / "dagster.yaml").is_file():
        return Path(chosen).expanduser().resolve()
    return FILES


def use_project_instance() -> Path:
    """Set `DAGSTER_HOME` for this process and its children to a folder with the configuration of `home()`.

    For the project's own configuration, this folder is `.klaviyo/dagster`, which contains a link to `dagster.yaml`. The
    web server creates folders for telemetry in `DAGSTER_HOME`, even if telemetry is off. They should not be in the
    project's root.
    """
    load_dotenv_file()
    folder = home()
    if folder == FILES:
        folder = _linked_home()
    if not IS_CHECKOUT:
        # The default depends on the working directory, and a child process may have a different one.
        os.environ[STATE_VARIABLE] = str(state_dir())
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE)
    return folder


def _linked_home() -> Path:
    folder = state_dir() / "dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A relative link, so that it stays valid if the project is moved.
        (folder / "dagster.yaml").symlink_to(os.path.relpath(FILES / "dagster.yaml", folder))
    except FileExistsError:
        pass
    except OSError:
        return FILES  # a read-only project, or a system without links
    return folder


@contextmanager
def without_output_capture() -> Iterator[None]:
    """Let runs in this block print to the terminal, without Dagster capturing their output.

    Capturing takes four processes per run. The log lines of assets are in the run's log anyway.
    """
    before = _is_uncaptured.set(True)
    try:
        yield
    finally:
        _is_uncaptured.reset(before)


class ProjectStorage(DagsterPostgresStorage):
    """Runs, events and schedules in Postgres, at `storage_url()`."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        # The parent's constructor is skipped: it would open Dagster's own three storages, which are replaced below.
        super(DagsterPostgresStorage, self).__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        engine = kept_session(postgres_url)
        # Looked up once here, because each storage would look for its tables in a separate session.
        create = not set(TABLES) <= set(sa.inspect(engine).get_table_names())
        self._run_storage = ProjectRunStorage(engine, create_tables=create)
        self._event_log_storage = BatchedEventLogStorage(engine, create_tables=create)
        self._schedule_storage = SteadyScheduleStorage(engine, create_tables=create)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        url = storage_url()
        if own := os.environ.get(OWN_URL, "").strip():
            with reached(own, OWN_URL) as connection:
                check_tables(connection)
        return cls(postgres_url=url, inst_data=inst_data)


class ProjectArtifacts(LocalArtifactStorage):
    """Files of runs, in `.klaviyo/dagster`."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(state_dir() / "dagster"), inst_data=inst_data)


class ProjectComputeLogs(LocalComputeLogManager):
    """The output of steps, in `.klaviyo/dagster/storage`. In a block of `without_output_capture`, none is captured."""

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        captured = nullcontext(CapturedLogContext(log_key)) if _is_uncaptured.get() else super().capture_logs(log_key)
        with captured as context:
            yield context

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(state_dir() / "dagster" / "storage"), inst_data=inst_data)
