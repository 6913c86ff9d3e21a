"""Some kills; `make torture` kills a hundred times."""

from __future__ import annotations

from pathlib import Path

import pytest

from klaviyo_pipeline_tests.torture.kills import ASSETS, slaughter_on


@pytest.mark.timeout(300)
def test_a_sync_that_is_killed_leaves_nothing_half_and_the_next_one_comes_to_the_same_end(
    database: str, tmp_path: Path
) -> None:
    with slaughter_on(database, tmp_path, seed=2) as slaughter:
        slaughter.round(ASSETS[0], kills=4)
        assert sum(slaughter.kills.values()) >= 3


@pytest.mark.timeout(300)
def test_two_syncs_of_the_same_windows_at_once_both_end_well_with_the_tables_of_one(
    database: str, tmp_path: Path
) -> None:
    with slaughter_on(database, tmp_path, seed=1) as slaughter:
        slaughter.at_once(ASSETS[0])
