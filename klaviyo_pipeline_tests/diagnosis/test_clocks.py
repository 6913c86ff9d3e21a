"""What `doctor` finds about clocks: this machine's, the database's and Klaviyo's."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.diagnosis import clocks
from klaviyo_pipeline_tests.diagnosis.installation import diagnose

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("synced")
def test_a_wrong_clock_is_a_warning() -> None:
    findings = diagnose(ahead=timedelta(seconds=30))
    assert {check for check, finding in findings.items() if finding.verdict != "ok"} == {"clocks"}
    assert findings["clocks"].verdict == "warning"
    assert "this machine is" in findings["clocks"].found


def test_rows_observed_ahead_of_the_clock_fail_until_the_command_in_the_remedy_resets_them(
    synced: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(synced) as connection:
        connection.execute(
            "INSERT INTO shop.flows (id, raw, observed_at) VALUES ('F1', '{}', clock_timestamp() + interval '1 day')"
        )
    finding = diagnose()["observation times"]
    assert (finding.verdict, "1 in flows" in finding.found) == ("failed", True)
    assert "klaviyo-pipeline reset-clock" in str(finding.remedy)
    with pytest.raises(SystemExit) as ended:
        main(["reset-clock", "--yes"])
    assert ended.value.code == 0
    assert "Corrected rows: 1 in flows." in capsys.readouterr().out
    assert diagnose()["observation times"].verdict == "ok"


@pytest.mark.parametrize(
    ("database_ahead", "klaviyo_ahead", "verdict"),
    [(5, 0, "ok"), (-4, 2, "warning"), (0, -6, "warning"), (None, 6, "warning"), (None, None, "skipped")],
)
def test_any_two_clocks_more_than_five_seconds_apart_are_a_warning(
    database_ahead: int | None, klaviyo_ahead: int | None, verdict: str
) -> None:
    ours = [None if ahead is None else timedelta(seconds=ahead) for ahead in (database_ahead, klaviyo_ahead)]
    assert clocks.compare(database=ours[0], klaviyo=ours[1]).verdict == verdict
