"""A fixed part of the fault matrix; `make torture` runs all of it."""

from __future__ import annotations

import pytest

from klaviyo_pipeline_tests.torture.faults import TROUBLES
from klaviyo_pipeline_tests.torture.matrix import PLACES, TARGETS, Defect, matrix_on, sample

pytestmark = pytest.mark.slow

SAMPLE = sample(59)


def test_the_sample_covers_every_fault_target_place_and_duration() -> None:
    assert {cell.trouble.name for cell in SAMPLE} == {trouble.name for trouble in TROUBLES}
    assert {cell.target for cell in SAMPLE} == set(TARGETS)
    assert {cell.place for cell in SAMPLE} == set(PLACES)
    assert {cell.lasting for cell in SAMPLE} == {False, True}


@pytest.mark.timeout(300)
def test_no_fault_loses_a_row_or_leaves_a_window_synced_without_its_rows(database: str) -> None:
    defects = []
    with matrix_on(database) as matrix:
        # By target, because a change of the target syncs its objects anew.
        for cell in sorted(SAMPLE, key=lambda cell: TARGETS.index(cell.target)):
            try:
                matrix.outcome(cell)
            except Defect as defect:
                defects.append(str(defect))
    assert defects == []
