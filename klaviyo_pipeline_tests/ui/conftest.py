"""Fixtures of a module: a browser, and an account in the Dagster UI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from klaviyo_pipeline_tests.support import throw_away_database
from klaviyo_pipeline_tests.ui.browser import CHROMIUM, MISSING, chromium
from klaviyo_pipeline_tests.ui.site import Site, site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # While the browser is open, an event loop runs in this thread, and Dagster cannot start another one in it.
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with chromium() as found:
        yield found


@pytest.fixture(autouse=True)
def closed_pages(browser: Browser) -> Iterator[None]:
    """Closes the pages of a test after it: an open page of the UI goes on sending queries and drawing."""
    yield
    for context in browser.contexts:
        context.close()


@pytest.fixture(scope="module")
def dagster_ui(
    browser: Browser, postgres_server: str, recorded_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """An account whose flows and flow report are synced, and whose metrics are not."""
    with pytest.MonkeyPatch.context() as patch, throw_away_database(postgres_server, recorded_template) as database:
        patch.delenv("DAGSTER_HOME", raising=False)
        folder = tmp_path_factory.mktemp("dagster")
        with site(database, folder, ["flows", "flow_report"], flows=12, campaigns=0, forms=0, segments=0) as opened:
            yield opened


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """The folder for a test's screenshots. pytest keeps the folders of the last three sessions."""
    return tmp_path
