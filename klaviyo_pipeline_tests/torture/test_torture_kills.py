"""Some kills; `make torture` runs a hundred."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from klaviyo_pipeline_tests.support import throw_away_database
from klaviyo_pipeline_tests.torture.kills import ASSETS, Slaughter, slaughter_on

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slaughter(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slaughter]:
    """Both tests compare with the same undisturbed sync. Each begins with empty tables."""
    folder = tmp_path_factory.mktemp("kills")
    with throw_away_database(postgres_server) as database, slaughter_on(database, folder, seed=2) as slaughter:
        yield slaughter


@pytest.mark.timeout(300)
def test_a_killed_sync_leaves_nothing_half_written_and_the_next_one_completes_it(slaughter: Slaughter) -> None:
    slaughter.round(ASSETS[0], kills=4)
    assert sum(slaughter.kills.values()) >= 3


@pytest.mark.timeout(300)
def test_two_concurrent_syncs_of_the_same_windows_succeed_with_the_tables_of_one(slaughter: Slaughter) -> None:
    slaughter.at_once(ASSETS[0])
