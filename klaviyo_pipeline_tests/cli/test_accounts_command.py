"""Commands over the accounts of accounts.yaml: an invalid entry or an unmigrated schema does not hide the others."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.cli.shared import json_text

pytestmark = pytest.mark.slow


@pytest.fixture
def command(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command with three entries, of which one is invalid and one account is migrated."""
    file = tmp_path / "accounts.yaml"
    file.write_text("accounts: [{slug: one, api_key_env: KEY_ONE}, {slug: two}, {slug: bad, timezone: Mars}]")
    monkeypatch.setenv("KLAVIYO_ACCOUNTS_FILE", str(file))
    monkeypatch.setenv("KLAVIYO_DATABASE_URL", database)
    monkeypatch.setenv("KEY_ONE", "pk_hush")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        assert "pk_hush" not in out + err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


WRONG = (
    "Error: accounts.yaml: account bad: timezone='Mars' is not an IANA time zone; use a name such as "
    "America/New_York.\n"
)


def test_the_list_of_accounts_shows_which_keys_are_set_and_the_invalid_entry(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = command("accounts")
    assert (code, err) == (1, WRONG)
    one, two = out.splitlines()[1:]
    assert one.split() == ["one", "UTC", "daily", "2025-01-01", "KEY_ONE", "–"]
    assert "KLAVIYO_API_KEY_TWO (not set)" in two


def test_one_klaviyo_account_with_two_slugs_is_a_warning(
    command: Callable[..., tuple[int, str, str]], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAVIYO_API_KEY_TWO", "pk_hush")
    code, _, err = command("accounts", "--format", "json")
    assert (code, err) == (
        1,
        f"{WRONG}warning: one and two have the same API key (KEY_ONE, KLAVIYO_API_KEY_TWO); "
        "sums over all accounts count this Klaviyo account twice.\n",
    )
    monkeypatch.setenv("KLAVIYO_API_KEY_TWO", "pk_another")
    assert command("accounts")[2] == WRONG
    command("migrate")
    with psycopg.connect(database) as connection:
        for slug in ("one", "two"):
            connection.execute(
                sql.SQL(
                    "INSERT INTO {}.account (account_id, timezone, window_timezone, sync_window, start_date, "
                    "attribution_days, verified_at) VALUES ('SHOP01', 'UTC', 'UTC', 'daily', '2025-01-01', 5, now())"
                ).format(sql.Identifier(slug))
            )
    assert command("accounts")[2] == (
        f"{WRONG}warning: one and two are the same Klaviyo account, SHOP01; "
        "sums over all accounts count this Klaviyo account twice.\n"
    )


def test_a_table_replaces_characters_that_the_output_lacks(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert command("accounts")[0] == 1
    one = written.getvalue().decode("ascii").splitlines()[1]
    assert one.split() == ["one", "UTC", "daily", "2025-01-01", "KEY_ONE", "?"]


def test_json_escapes_characters_that_the_output_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = json_text([{"name": "Café 🎁"}])
    assert text.isascii()
    assert json.loads(text) == [{"name": "Café 🎁"}]


def test_a_command_over_all_accounts_runs_for_the_valid_ones_and_then_fails(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = command("migrate")
    assert (code, err) == (1, WRONG)
    assert "schema one is up to date\n" in out
    assert "schema two is up to date\n" in out
    assert command("migrate", "--account", "two") == (0, "schema two is up to date\n", "")
    code, out, err = command("status", "--account", "one", "--account", "two", "--format", "json")
    assert (code, err) == (0, "")
    assert {row["account"] for row in json.loads(out)} == {"one", "two"}


def test_an_account_that_is_not_migrated_does_not_hide_the_others(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    command("migrate", "--account", "one")
    code, out, err = command("status")
    assert code == 1
    assert len(err.splitlines()) == 2
    assert err.splitlines()[1].startswith("Error: two: ")
    assert "flow_metrics" in out


def test_selecting_an_invalid_account_is_a_one_line_error(command: Callable[..., tuple[int, str, str]]) -> None:
    assert command("sync", "--account", "bad") == (1, "", WRONG)
    code, _, err = command("status", "--account", "nobody")
    assert (code, err.count("\n")) == (1, 1)
    code, _, err = command("list", "flows")
    assert (code, err) == (2, "Error: Several accounts are configured; choose one with --account: one, two.\n")
