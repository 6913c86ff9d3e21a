"""Valid and invalid values of every setting. An invalid value is a one-line error that names the variable."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from klaviyo_pipeline.catalog import switched_on
from klaviyo_pipeline.config.settings import Account, SettingsError, load_dotenv_file, load_settings

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)


def load(**environ: str) -> Account:
    return load_settings(environ, now=NOW).account


def refusal(**environ: str) -> str:
    """The error message of these settings."""
    with pytest.raises(SettingsError) as refused:
        load_settings(environ, now=NOW)
    return str(refused.value)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = load_settings({}, now=NOW)
    assert settings.database_url is None
    assert settings.account == Account(
        slug="klaviyo",
        api_key_variable="KLAVIYO_API_KEY",
        api_url="https://a.klaviyo.com",
        revision="2026-10-15",
        start_date=date(2025, 1, 1),
        timezone="UTC",
        sync_window="daily",
        lookback_days=7,
        attribution_days=5,
        conversion_metric_id=None,
        rate_scale=1.0,
    )


VARIABLES = [
    "KLAVIYO_ACCOUNT",
    "KLAVIYO_API_URL",
    "KLAVIYO_REVISION",
    "KLAVIYO_START_DATE",
    "KLAVIYO_TIMEZONE",
    "KLAVIYO_SYNC_WINDOW",
    "KLAVIYO_LOOKBACK_DAYS",
    "KLAVIYO_ATTRIBUTION_DAYS",
    "KLAVIYO_CONVERSION_METRIC_ID",
    "KLAVIYO_RATE_SCALE",
    "KLAVIYO_DATABASE_URL",
]


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_an_empty_value_counts_as_not_set(blank: str) -> None:
    assert load_settings(dict.fromkeys(VARIABLES, blank), now=NOW) == load_settings({}, now=NOW)


def test_blanks_around_a_value_are_removed() -> None:
    assert load(KLAVIYO_ACCOUNT=" shop ", KLAVIYO_TIMEZONE="Europe/Berlin\n").slug == "shop"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("KLAVIYO_ACCOUNT", "shop_2", "slug", "shop_2"),
        ("KLAVIYO_ACCOUNT", "a" * 48, "slug", "a" * 48),
        ("KLAVIYO_API_URL", "http://127.0.0.1:8080", "api_url", "http://127.0.0.1:8080"),
        ("KLAVIYO_API_URL", "https://a.klaviyo.com/", "api_url", "https://a.klaviyo.com"),
        ("KLAVIYO_API_URL", "https://a.klaviyo.com/api/", "api_url", "https://a.klaviyo.com"),
        ("KLAVIYO_REVISION", "2026-07-15", "revision", "2026-07-15"),
        ("KLAVIYO_REVISION", "2026-10-15", "revision", "2026-10-15"),
        ("KLAVIYO_START_DATE", "2024-02-29", "start_date", date(2024, 2, 29)),
        ("KLAVIYO_START_DATE", "2025-06-15", "start_date", date(2025, 6, 15)),
        ("KLAVIYO_TIMEZONE", "America/New_York", "timezone", "America/New_York"),
        ("KLAVIYO_SYNC_WINDOW", "hourly", "sync_window", "hourly"),
        ("KLAVIYO_LOOKBACK_DAYS", "0", "lookback_days", 0),
        ("KLAVIYO_LOOKBACK_DAYS", "3650", "lookback_days", 3650),
        ("KLAVIYO_ATTRIBUTION_DAYS", "30", "attribution_days", 30),
        ("KLAVIYO_CONVERSION_METRIC_ID", "AbC123", "conversion_metric_id", "AbC123"),
        ("KLAVIYO_CONVERSION_METRIC_ID", "AbC123, XyZ789,AbC123,", "conversion_metric_id", ("AbC123", "XyZ789")),
        ("KLAVIYO_RATE_SCALE", "0", "rate_scale", 0.0),
        ("KLAVIYO_RATE_SCALE", "0.25", "rate_scale", 0.25),
    ],
)
def test_a_valid_value_is_used(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(load(**{variable: text}), field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(("KLAVIYO_ACCOUNT", slug) for slug in ["Shop", "1shop", "my shop", "a" * 49, "ü", "a-b", 'a"; DROP', "_a"]),
        *(("KLAVIYO_ACCOUNT", slug) for slug in ["public", "dagster", "information_schema", "pg_temp"]),
        *(("KLAVIYO_API_URL", url) for url in ["a.klaviyo.com", "ftp://a.klaviyo.com", "https://", "http://[::1"]),
        *(("KLAVIYO_API_URL", url) for url in ["http://localhost:port", "http://localhost:99999"]),
        *(("KLAVIYO_REVISION", revision) for revision in ["latest", "2027-01-15", "2026-10-15.pre", "2026-07-15\nX"]),
        *(("KLAVIYO_START_DATE", day) for day in ["yesterday", "2025-02-30", "01/02/2025", "2025-01-01T00:00"]),
        *(("KLAVIYO_START_DATE", day) for day in ["1999-12-31", "2025-06-16", "9999-12-31"]),
        *(("KLAVIYO_TIMEZONE", zone) for zone in ["New York", "EST5", "+02:00", "../../etc/passwd", "europe/berlin"]),
        *(("KLAVIYO_SYNC_WINDOW", window) for window in ["weekly", "Daily", "1h"]),
        *(("KLAVIYO_LOOKBACK_DAYS", days) for days in ["-1", "7.5", "a week", "3651", "9" * 30]),
        *(("KLAVIYO_ATTRIBUTION_DAYS", days) for days in ["-1", "366"]),
        *(("KLAVIYO_RATE_SCALE", scale) for scale in ["-1", "fast", "nan", "inf", "1e3"]),
        *(("KLAVIYO_DATABASE_URL", url) for url in ["mysql://h/db", "postgresql://h", "postgresql://h/", "h/db", "db"]),
    ],
)  # fmt: skip
def test_an_invalid_value_is_a_one_line_error_that_names_its_variable(variable: str, text: str) -> None:
    message = refusal(**{variable: text})
    assert variable in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KLAVIYO_DATABASE_URL", "mysql://user:s3cret@host/db"),
        ("KLAVIYO_DATABASE_URL", "postgresql://user:s3cret@host"),
        ("KLAVIYO_DATABASE_URL", "postgresql://user:s3cret/more@host/db"),
        ("KLAVIYO_DATABASE_URL", "postgresql://user:s3cret[1@host/db"),
        ("KLAVIYO_DATABASE_URL", "postgresql://user:s3cret#1@host/db"),
        ("KLAVIYO_API_URL", "https://user:s3cret@a.klaviyo.com"),
        ("KLAVIYO_API_URL", "ftp://user:s3cret@a.klaviyo.com"),
        ("KLAVIYO_API_URL", "user:s3cret@a.klaviyo.com"),
    ],
)
def test_a_password_is_never_quoted(variable: str, text: str) -> None:
    message = refusal(**{variable: text})
    assert variable in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:pass@host:5432/db",
        "postgres://host/db?sslmode=require",
        "postgresql:///db",
        "postgresql://user:p%2Fss%40@[::1]/db",
    ],
)
def test_a_database_url_is_kept_unchanged(url: str) -> None:
    assert load_settings({"KLAVIYO_DATABASE_URL": url}, now=NOW).database_url == url


@pytest.mark.parametrize(
    ("variable", "text", "suggested"),
    [
        ("KLAVIYO_TIMEZONE", "Paris", r"such as (\S+)\.$"),
        ("KLAVIYO_SYNC_WINDOW", "weekly", r"use (\w+) or"),
        ("KLAVIYO_REVISION", "2024-10-15", r"set it to (\S+) or"),
        ("KLAVIYO_START_DATE", "1999-12-31", r"use (\S+) or later"),
        ("KLAVIYO_API_URL", "klaviyo", r"the default is (\S+)\.$"),
        ("KLAVIYO_DATABASE_URL", "mysql://host/database", r"the form (\S+),"),
        ("KLAVIYO_DATABASE_URL", "postgresql://one,two/database", r"such as (\S+)\.$"),
        ("KLAVIYO_LOOKBACK_DAYS", "a week", r"from (\d+) to"),
        ("KLAVIYO_RATE_SCALE", "-1", r"a number, (\d+) or more"),
        ("KLAVIYO_TEMPLATE_HTML", "true", r"must be (\w+) or"),
        ("KLAVIYO_OWNERS", "Jo", r"such as (.*)\.$"),
        ("KLAVIYO_ASSETS", "flow", r"choose from (\w+),"),
    ],
)
def test_the_value_that_an_error_suggests_is_a_valid_one(variable: str, text: str, suggested: str) -> None:
    with pytest.raises(SettingsError) as refused:
        switched_on(load(**{variable: text}).assets)
    found = re.search(suggested, str(refused.value))
    assert found, refused.value
    switched_on(load(**{variable: found[1]}).assets)


def test_the_settings_do_not_contain_the_api_key() -> None:
    settings = load_settings({"KLAVIYO_API_KEY": "pk_s3cret"}, now=NOW)
    assert "pk_s3cret" not in repr(settings)
    assert settings.account.api_key_variable == "KLAVIYO_API_KEY"


def test_the_account_s_own_calendar_decides_whether_a_start_date_is_in_the_future() -> None:
    """At noon UTC, it is already the next day in Kiritimati, and the same day in Honolulu."""
    assert load(KLAVIYO_START_DATE="2025-06-16", KLAVIYO_TIMEZONE="Pacific/Kiritimati").start_date == date(2025, 6, 16)
    message = refusal(KLAVIYO_START_DATE="2025-06-16", KLAVIYO_TIMEZONE="Pacific/Honolulu")
    assert "KLAVIYO_START_DATE=2025-06-16 is in the future" in message


@pytest.mark.parametrize("name", ["Australia/Lord_Howe", "Australia/LHI"])
def test_hourly_windows_are_rejected_if_the_clocks_change_by_half_an_hour(name: str) -> None:
    message = refusal(KLAVIYO_SYNC_WINDOW="hourly", KLAVIYO_TIMEZONE=name)
    assert "KLAVIYO_SYNC_WINDOW=hourly" in message
    assert "use daily" in message
    assert load(KLAVIYO_TIMEZONE=name).sync_window == "daily"


def test_the_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_ACCOUNT", "from_the_environment")
    assert load_settings(now=NOW).account.slug == "from_the_environment"


def test_a_dotenv_file_sets_variables_that_the_environment_does_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KLAVIYO_IGNORE_DOTENV")
    monkeypatch.setenv("KLAVIYO_ACCOUNT", "set_already")
    monkeypatch.setenv("KLAVIYO_TIMEZONE", "UTC")  # so that the variable is reset after the test
    monkeypatch.delenv("KLAVIYO_TIMEZONE")
    file = tmp_path / ".env"
    file.write_text("KLAVIYO_ACCOUNT=from_the_file\nKLAVIYO_TIMEZONE=Asia/Tokyo\n")
    load_dotenv_file(file)
    monkeypatch.setenv("KLAVIYO_IGNORE_DOTENV", "1")
    account = load_settings(now=NOW).account
    assert (account.slug, account.timezone) == ("set_already", "Asia/Tokyo")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_dotenv_file_that_is_not_utf_8_is_a_one_line_error_that_names_it(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KLAVIYO_IGNORE_DOTENV")
    file = tmp_path / ".env"
    file.write_text("KLAVIYO_OWNERS=café@example.com\n", encoding=encoding)
    with pytest.raises(SettingsError) as raised:
        load_dotenv_file(file)
    assert str(raised.value) == f"{file} is not UTF-8; save it as UTF-8."


def test_a_dotenv_file_can_begin_with_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KLAVIYO_IGNORE_DOTENV")
    monkeypatch.setenv("KLAVIYO_ACCOUNT", "")  # so that the variable is reset after the test
    monkeypatch.delenv("KLAVIYO_ACCOUNT")
    file = tmp_path / ".env"
    file.write_text("KLAVIYO_ACCOUNT=first_line\n", encoding="utf-8-sig")
    load_dotenv_file(file)
    monkeypatch.setenv("KLAVIYO_IGNORE_DOTENV", "1")
    assert load_settings(now=NOW).account.slug == "first_line"


def test_the_error_of_a_database_url_with_several_hosts_says_so() -> None:
    line = refusal(KLAVIYO_DATABASE_URL="postgresql://user:s3cret@one:5432,two:5432/db?target_session_attrs=read-write")
    assert line == (
        "KLAVIYO_DATABASE_URL contains several hosts, but only one is supported; use an address that always leads "
        "to the primary, such as postgresql://user:password@host:5432/database."
    )


def test_a_comma_in_a_password_does_not_mean_several_hosts() -> None:
    assert "several hosts" not in refusal(KLAVIYO_DATABASE_URL="postgresql://user:s3,c/ret@host/db")
    load(KLAVIYO_DATABASE_URL="postgresql://u,s:p,w@host/db")


def test_a_dotenv_file_can_be_ignored(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("KLAVIYO_ACCOUNT=from_the_file\n")
    load_dotenv_file(file)
    assert load_settings(now=NOW).account.slug == "klaviyo"


def test_today_is_the_accounts_calendar_day() -> None:
    late = datetime(2025, 6, 15, 23, 30, tzinfo=UTC)
    assert Account(timezone="Europe/Berlin").today(late) == date(2025, 6, 16)
    assert Account(timezone="America/New_York").today(late) == date(2025, 6, 15)


def test_owners_are_email_addresses_and_teams() -> None:
    assert load().owners == ()
    assert load(KLAVIYO_OWNERS="jo@example.com, team:data,").owners == ("jo@example.com", "team:data")
    assert refusal(KLAVIYO_OWNERS="jo@example.com, the data team") == (
        "KLAVIYO_OWNERS: 'the data team' is not a valid owner; use email addresses and teams, such as "
        "jo@example.com, team:data."
    )


def test_assets_are_names_separated_by_commas() -> None:
    assert load().assets == ("default",)
    assert load(KLAVIYO_ASSETS=" flows,flow_report ,").assets == ("flows", "flow_report")


@pytest.mark.parametrize("setting", ["AbC123,XyZ789", ["AbC123", "XyZ789"], ("AbC123", "XyZ789", "AbC123")])
def test_an_account_takes_several_conversion_metrics_as_a_list_or_with_commas(setting: str | list[str]) -> None:
    account = Account(conversion_metric_id=setting)
    assert (account.first_conversion_metric, account.conversion_metrics) == ("AbC123", ("AbC123", "XyZ789"))
    assert Account(conversion_metric_id="AbC123").conversion_metric_id == "AbC123"
    assert Account().conversion_metrics == ()
