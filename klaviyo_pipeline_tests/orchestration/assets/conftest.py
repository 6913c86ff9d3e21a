"""A pipeline over an empty account, and a client that does not wait between its attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline_tests.support import Pipeline, empty_shop, pipeline_on


@pytest.fixture
def shop() -> SandboxAccount:
    return empty_shop()


@pytest.fixture
def pipeline(migrated: str, shop: SandboxAccount, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, shop, monkeypatch) as pipeline:
        yield pipeline


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No backoff, so that lasting errors fail at once."""
    monkeypatch.setattr(RetryPolicy, "backoff", lambda self, attempt: 0.0)
