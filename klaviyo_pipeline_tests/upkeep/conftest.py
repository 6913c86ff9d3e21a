"""An account whose runs are recorded where a user's are: in Postgres, with what their steps print on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef

from klaviyo_pipeline_tests.support import Pipeline, dagster_home, empty_shop, pipeline_on


@pytest.fixture
def recorded(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A pipeline on an empty account, whose runs stand in Dagster's tables in the schema `public`."""
    monkeypatch.setenv("KLAVIYO_DAGSTER_DATABASE_URL", database)
    ref = InstanceRef.from_dir(str(dagster_home(tmp_path)))
    with pipeline_on(database, empty_shop(), monkeypatch) as pipeline, dg.DagsterInstance.from_ref(ref) as instance:
        # Else Dagster opens a connection for each thing that it does.
        instance.optimize_for_webserver(60_000, pool_recycle=3600, max_overflow=4)
        yield replace(pipeline, instance=instance)
