"""Where Dagster keeps its own things: runs and events in Postgres, files under `.klaviyo/dagster`.

`dagster.yaml` names the three classes below without any configuration. They find their places themselves,
whatever the working folder, and Dagster rebuilds them in every process that it starts from nothing but their
names: no URL and no password stand in what the UI shows or in what one process hands to the next.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from klaviyo_pipeline.config.settings import PROJECT_ROOT, STATE_DIR, load_dotenv_file
from klaviyo_pipeline.dagster_internals.event_log import BatchedEventLogStorage
from klaviyo_pipeline.dagster_internals.steady_storage import SteadyRunStorage, SteadyScheduleStorage
from klaviyo_pipeline.dagster_internals.storage_url import OWN_URL, check_tables, reached, storage_url

# A run over a year writes events for each of its windows: together, not one by one.
EVENT_BATCH_SIZE = "1000"


_is_seen: ContextVar[bool] = ContextVar("output_is_seen", default=False)


def home() -> Path:
    """The folder whose `dagster.yaml` holds: `DAGSTER_HOME` if it has one, else the project's root."""
    chosen = os.environ.get("DAGSTER_HOME", "").strip()
    if chosen and (Path(chosen).expanduser() / "dagster.yaml").is_file():
        return Path(chosen).expanduser().resolve()
    return PROJECT_ROOT


def use_project_instance() -> Path:
    """Set `DAGSTER_HOME` for this process and its children to where the configuration of `home()` is found.

    For the project's own that is `.klaviyo/dagster`, with a link to it: the web server makes folders for
    telemetry in `DAGSTER_HOME`, even when that is switched off, and the project's root is no place for them.
    """
    load_dotenv_file()
    folder = home()
    if folder == PROJECT_ROOT:
        folder = _linked_home()
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE)
    return folder


def _linked_home() -> Path:
    folder = STATE_DIR / "dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Relative, so that a moved project keeps its configuration.
        (folder / "dagster.yaml").symlink_to(os.path.relpath(PROJECT_ROOT / "dagster.yaml", folder))
    except FileExistsError:
        pass
    except OSError:
        return PROJECT_ROOT  # a read-only project, or a system without links
    return folder


@contextmanager
def output_is_seen() -> Iterator[None]:
    """Runs of this block print to the terminal that began them, and their output is not captured besides.

    Capturing costs four processes a run; what the assets say is in the run's own log in any case.
    """
    before = _is_seen.set(True)
    try:
        yield
    finally:
        _is_seen.reset(before)


class ProjectStorage(DagsterPostgresStorage):
    """Runs, events and schedules in Postgres, at `storage_url()`."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Not Dagster's own constructor: it would open the three storages that these replace.
        super(DagsterPostgresStorage, self).__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        self._run_storage = SteadyRunStorage(postgres_url)
        self._event_log_storage = BatchedEventLogStorage(postgres_url)
        self._schedule_storage = SteadyScheduleStorage(postgres_url)

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
    """Files of runs under `.klaviyo/dagster`."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(STATE_DIR / "dagster"), inst_data=inst_data)


class ProjectComputeLogs(LocalComputeLogManager):
    """What steps print, under `.klaviyo/dagster/storage`; nothing where it is seen by whoever runs them."""

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        with nullcontext(CapturedLogContext(log_key)) if _is_seen.get() else super().capture_logs(log_key) as context:
            yield context

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls(base_dir=str(STATE_DIR / "dagster" / "storage"), inst_data=inst_data)
