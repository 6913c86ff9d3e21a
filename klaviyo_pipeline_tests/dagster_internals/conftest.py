"""A pipeline whose runs are recorded in Postgres, in an environment like that of an installation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline_tests.support import SLUG, START, Pipeline, put, recorded_pipeline, utc


@pytest.fixture
def installed(recordable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A pipeline whose account is also the one of the environment, as in an installation."""
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
    monkeypatch.setenv("KLAVIYO_ACCOUNT", SLUG)
    monkeypatch.setenv("KLAVIYO_START_DATE", START.isoformat())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with recorded_pipeline(recordable, tmp_path, monkeypatch) as pipeline:
        monkeypatch.setenv("KLAVIYO_API_URL", pipeline.server.url)
        monkeypatch.setenv("KLAVIYO_RATE_SCALE", "0")
        put(pipeline.shop, "flows", "f", utc("2025-03-10T12:00:00"))
        yield pipeline
