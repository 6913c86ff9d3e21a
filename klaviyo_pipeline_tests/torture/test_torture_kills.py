"""Some kills; `make torture` runs a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from klaviyo_pipeline_tests.torture.kills import ASSETS, slaughter_on

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_a_killed_sync_leaves_nothing_half_written_and_the_next_one_completes_it(database: str, tmp_path: Path) -> None:
    with slaughter_on(database, tmp_path, seed=2) as slaughter:
        slaughter.round(ASSETS[0], kills=4)
        assert sum(slaughter.kills.values()) >= 3


@pytest.mark.timeout(300)
def test_two_concurrent_syncs_of_the_same_windows_succeed_with_the_tables_of_one(database: str, tmp_path: Path) -> None:
    with slaughter_on(database, tmp_path, seed=1) as slaughter:
        slaughter.at_once(ASSETS[0])
