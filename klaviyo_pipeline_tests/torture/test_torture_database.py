"""Some of the database faults; `make torture` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.conftest import THROW_AWAY
from klaviyo_pipeline_tests.torture.database import CASES, cut_connections, outcome, quick_retries, restart_server
from klaviyo_pipeline_tests.torture.matrix import TARGETS, Defect, matrix_on

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_a_database_fault_during_a_write_leaves_the_ledger_right_and_the_next_run_heals_it(database: str) -> None:
    defects = []
    with matrix_on(database) as matrix, quick_retries():
        for case in CASES[::11]:
            try:
                outcome(matrix, case)
            except Defect as defect:
                defects.append(str(defect))
        cut_connections(matrix, TARGETS[0])
    assert defects == []


@pytest.mark.timeout(300)
def test_a_run_survives_a_restart_of_the_server(server_folder: Path) -> None:
    server = EmbeddedPostgres(server_folder / "restarted", settings=THROW_AWAY)
    try:
        with matrix_on(server.start()) as matrix:
            restart_server(matrix, TARGETS[0], server)
    finally:
        server.stop()
