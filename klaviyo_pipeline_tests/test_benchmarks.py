"""The benchmarks run, report results, and can be written into a document. Sizes are tiny; no time is checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import growth, memory, reading, request_counts, write_path
from benchmarks.__main__ import BENCHMARKS, page_of, write_table
from benchmarks.results import Measurement, as_table

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_markers_in_a_page(name: str) -> None:
    assert f"<!-- {name} -->" in page_of(name).read_text()


def test_a_result_reports_whether_it_meets_its_target() -> None:
    kept, missed = Measurement("a", "b", 0.6, "share", 0.5), Measurement("a", "b", 3, "request", 2, "at most")
    assert [json.loads(one.as_line())["met"] for one in (kept, missed)] == [True, False]
    assert as_table([kept, missed]).splitlines()[2:] == [
        "| a | b | 60.0% | at least 50.0% | kept |",
        "| a | b | 3 requests | at most 2 requests | **missed** |",
    ]


def test_a_table_is_written_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- growth -->\nold\n<!-- end -->\nafter\n<!-- memory -->\nkept\n<!-- end -->\n")
    write_table(page, "growth", [Measurement("a", "b", 1)])
    text = page.read_text()
    assert "old" not in text
    assert "| a | b | 1.00 × |  |  |" in text
    assert text.endswith("after\n<!-- memory -->\nkept\n<!-- end -->\n")


def test_unchanged_rows_leave_no_dead_tuple_and_both_kinds_of_rows_are_reported(database: str) -> None:
    measurements = list(write_path.run(database, quick=True))
    assert {measurement.benchmark for measurement in measurements} == {
        "write path, entities",
        "write path, report rows",
    }
    dead = [measurement.value for measurement in measurements if measurement.unit == "tuple"]
    assert dead == [0, 0]
    assert all(measurement.value > 0 for measurement in measurements if measurement.unit != "tuple")


def test_request_counts_meet_their_targets(database: str) -> None:
    measurements = list(request_counts.run(database, quick=True))
    assert len(measurements) == 4 * 2 + 2
    assert [measurement.name for measurement in measurements if not measurement.is_met] == []


@pytest.mark.parametrize(("benchmark", "measurements"), [(memory, 1), (reading, 7), (growth, 2)])
def test_the_other_benchmarks_report_results(database: str, benchmark: object, measurements: int) -> None:
    reported = list(benchmark.run(database, quick=True))  # type: ignore[attr-defined]
    assert len(reported) == measurements
    assert all(measurement.value > 0 for measurement in reported if measurement.unit != "scan")
