"""accounts.yaml: valid entries become accounts, an invalid one is a one-line error, and no message quotes a key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from klaviyo_pipeline.config import accounts as reading
from klaviyo_pipeline.config.accounts import (
    FIELDS,
    FROM_ENVIRONMENT,
    IN_CODE,
    Accounts,
    errors_in_terms_of,
    in_terms_of,
    load_accounts,
)
from klaviyo_pipeline.config.settings import PROJECT_ROOT, Account, SettingsError

pytestmark = pytest.mark.slow

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
ENTRY = "accounts:\n  - slug: good\n    api_key_env: KEY\n"

Load = Callable[..., Accounts]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Reads a file with this text and these environment variables."""

    def loaded(text: str, *, chosen: tuple[str, ...] = (), **environ: str) -> Accounts:
        file = tmp_path / "accounts.yaml"
        file.write_text(text, encoding="utf-8")
        return load_accounts({"KLAVIYO_ACCOUNTS_FILE": str(file), **environ}, chosen=chosen, now=NOW)

    return loaded


def slugs(found: Accounts) -> list[str]:
    return [settings.account.slug for settings in found.every]


def refusal(load: Load, text: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(text, **environ)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def wrong(load: Load, entry: str) -> str:
    """The error of an invalid entry, after a valid one that is loaded."""
    found = load(ENTRY + entry)
    assert slugs(found) == ["good"]
    [line] = found.errors
    assert "\n" not in line
    return line


def test_the_retention_days_of_the_environment_apply_to_all_accounts(load: Load) -> None:
    found = load(ENTRY + "  - slug: other\n", KLAVIYO_RETENTION_DAYS="30")
    assert [settings.account.retention_days for settings in found.every] == [30, 30]
    assert "KLAVIYO_RETENTION_DAYS='never'" in refusal(load, ENTRY, KLAVIYO_RETENTION_DAYS="never")


def test_an_entry_is_an_account_with_the_defaults_of_the_file(load: Load) -> None:
    found = load(
        """
defaults: {timezone: Europe/Berlin, start_date: 2025-03-01, lookback_days: 3}
accounts:
  - slug: shop_uk
    api_key_env: KEY_UK
    timezone: Europe/London
    sync_window: hourly
    attribution_days: 14
    conversion_metric_id: UkMet1
    owners: [jo@example.com, "team:data"]
    assets: [flows, flow_report]
    rate_scale: 0.5
    api_url: https://eu.example.com/
    revision: 2026-07-15
  - slug: shop_de
    conversion_metric_id: [DeMet1, DeMet2]
"""
    )
    uk, de = (settings.account for settings in found.every)
    assert uk == Account(
        slug="shop_uk",
        api_key_variable="KEY_UK",
        api_url="https://eu.example.com",
        revision="2026-07-15",
        start_date=date(2025, 3, 1),
        timezone="Europe/London",
        sync_window="hourly",
        lookback_days=3,
        attribution_days=14,
        conversion_metric_id="UkMet1",
        rate_scale=0.5,
        owners=("jo@example.com", "team:data"),
        assets=("flows", "flow_report"),
        described_in="accounts.yaml",
    )
    assert (de.slug, de.timezone, de.api_key_variable) == ("shop_de", "Europe/Berlin", "KLAVIYO_API_KEY_SHOP_DE")
    assert de.conversion_metrics == ("DeMet1", "DeMet2")
    assert found.errors == ()


def test_without_a_file_the_environment_describes_the_account() -> None:
    found = load_accounts({"KLAVIYO_IGNORE_DOTENV": "1", "KLAVIYO_ACCOUNT": "brand"}, now=NOW)
    assert (slugs(found), found.file) == (["brand"], None)
    assert found.every[0].account == Account(slug="brand")


def test_the_default_file_is_used_unless_dotenv_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "accounts.yaml"
    file.write_text(ENTRY)
    monkeypatch.setattr(reading, "DEFAULT_FILE", file)
    assert slugs(load_accounts({}, now=NOW)) == ["good"]
    assert slugs(load_accounts({"KLAVIYO_IGNORE_DOTENV": "1"}, now=NOW)) == ["klaviyo"]


def test_the_example_file_is_valid(load: Load) -> None:
    found = load((PROJECT_ROOT / "accounts.yaml.example").read_text(encoding="utf-8"))
    assert (len(found.every), found.errors) == (2, ())


@pytest.mark.parametrize(
    ("entry", "reported"),
    [
        ("  - slug: bad\n    timezone: Mars/Base", "account bad: timezone='Mars/Base' is not an IANA time zone"),
        ("  - slug: bad\n    start_date: 2099-01-01", "account bad: start_date=2099-01-01 is in the future"),
        ("  - slug: bad\n    start_date: yesterday", "account bad: start_date='yesterday' is not a valid date"),
        ("  - slug: bad\n    sync_window: weekly", "account bad: sync_window='weekly' is not a valid sync window"),
        ("  - slug: bad\n    lookback_days: -1", "account bad: lookback_days='-1' must be a whole number"),
        ("  - slug: bad\n    rate_scale: fast", "account bad: rate_scale='fast' must be a number"),
        ("  - slug: bad\n    owners: [nobody at all]", "account bad: owners: 'nobody at all' is not a valid owner"),
        ("  - slug: bad\n    timezone: [UTC]", "account bad: timezone must be a single value"),
        ("  - slug: bad\n    timzone: UTC", "account bad: there is no field 'timzone'; did you mean timezone?"),
        ("  - slug: bad\n    nonsense: 1", "account bad: there is no field 'nonsense'; the fields are slug, timezone"),
        ("  - slug: Bad Name", "account Bad Name: slug='Bad Name' cannot be used as a schema name"),
        ("  - slug: klaviyo_overview", "cannot be used as a schema name"),
        ("  - slug: all", "the slug all is reserved"),
        ("  - slug: no", "entry 2: YAML reads the value of slug as true or false"),
        ("  - timezone: UTC", "entry 2: the field slug is missing"),
        ("  - text", "entry 2: the entry must contain fields"),
        ("  - slug: bad\n    database_url_env: 'postgresql://u:p@h/d'", "database_url_env must be the name of an env"),
        ("  - slug: bad\n    api_key_env: 12", "account bad: api_key_env must be the name of an environment variable"),
    ],
)
def test_an_invalid_entry_is_a_one_line_error_that_names_it_and_the_others_load(
    entry: str, reported: str, load: Load
) -> None:
    line = wrong(load, entry)
    assert line.startswith("accounts.yaml: ")
    assert reported in line


@pytest.mark.parametrize(
    "entry",
    [
        "  - slug: bad\n    api_key_env: pk_0123456789abcdef",
        "  - slug: bad\n    api_key: pk_0123456789abcdef",
        "  - slug: bad\n    timezone: pk_0123456789abcdef",
        "  - slug: bad\n    owners: [pk_0123456789abcdef]",
        "  - slug: pk_0123456789abcdef",
        "  - pk_0123456789abcdef: bad\n    slug: bad",
        "  - slug: bad\n    api_key_env: PK_0123456789abcdef",
    ],
)
def test_a_key_in_the_file_is_rejected_and_never_quoted(entry: str, load: Load) -> None:
    line = wrong(load, entry)
    assert "looks like an API key" in line
    assert "0123456789abcdef" not in line


def test_entries_with_the_same_slug_are_not_used(load: Load) -> None:
    found = load(ENTRY + "  - slug: twin\n    timezone: UTC\n  - slug: twin\n")
    assert slugs(found) == ["good"]
    [error] = found.errors
    assert error.startswith("accounts.yaml: account twin: several entries have this slug, so none of them is used;")


REPEATED = "is repeated in"


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("accounts: [", "is not valid YAML (line 1)"),
        ("accounts:\n  - slug: a\n  key: pk_secret\n   x: [\n", "is not valid YAML (line"),
        ("accounts:\n  - slug: a\n    timezone: UTC\n    slug: b\n", f"slug {REPEATED} lines 2 and 4"),
        ("accounts:\n  - slug: a\naccounts:\n  - slug: b\n", f"accounts {REPEATED} lines 1 and 3"),
        ("defaults: {timezone: UTC, timezone: UTC}\n" + ENTRY, f"timezone {REPEATED} lines 1 and 1"),
        ("accounts:\n  - slug: a\n    pk_secret: 1\n    pk_secret: 2\n", f"a field {REPEATED} lines 3 and 4"),
        ("", "must contain a list `accounts:`"),
        ("just text", "must contain a list `accounts:`"),
        ("accounts: {a: 1}", "must contain a list `accounts:`"),
        ("accounts: []", "the list `accounts:` is empty"),
        ("accounts:\n  - slug: a\naccount: []", "the file: there is no field 'account'; did you mean accounts?"),
        ("defaults: [UTC]\n" + ENTRY, "`defaults:` must contain fields"),
        ("defaults: {timezone: Mars}\n" + ENTRY, "defaults: timezone='Mars' is not an IANA time zone"),
        ("defaults: {slug: x}\n" + ENTRY, "defaults: there is no field 'slug'"),
        ("defaults: {api_url: pk_secret}\n" + ENTRY, "looks like an API key"),
        ("accounts:\n  - slug: a\n    timezone: Mars\n", "account a: timezone='Mars'"),
    ],
)
def test_an_invalid_file_is_a_one_line_error(text: str, reported: str, load: Load) -> None:
    line = refusal(load, text)
    assert reported in line
    assert "pk_secret" not in line


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_that_is_not_utf_8_is_a_one_line_error(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "shops.yaml"
    file.write_text(ENTRY + "    owners: café@example.com\n", encoding=encoding)
    with pytest.raises(SettingsError, match=r"^shops\.yaml: the file is not UTF-8; save it as UTF-8\.$"):
        load_accounts({"KLAVIYO_ACCOUNTS_FILE": str(file)}, now=NOW)


def test_a_missing_file_is_a_one_line_error() -> None:
    with pytest.raises(SettingsError, match=r"KLAVIYO_ACCOUNTS_FILE: /nowhere/a\.yaml cannot be read"):
        load_accounts({"KLAVIYO_ACCOUNTS_FILE": "/nowhere/a.yaml"}, now=NOW)


def test_accounts_are_selected_by_slug_and_by_the_environment(load: Load) -> None:
    text = ENTRY + "  - slug: other\n  - slug: third\n"
    assert slugs(load(text)) == slugs(load(text, chosen=("all",))) == ["good", "other", "third"]
    assert slugs(load(text, chosen=("third", "good", "third"))) == ["third", "good"]
    assert slugs(load(text, KLAVIYO_ACCOUNT="other")) == ["other"]
    assert slugs(load(text, chosen=("third",), KLAVIYO_ACCOUNT="other")) == ["third"]


def test_the_error_of_an_unknown_slug_lists_the_accounts_and_that_of_an_invalid_entry_its_fault(load: Load) -> None:
    text = ENTRY + "  - slug: bad\n    timezone: Mars\n"
    with pytest.raises(SettingsError, match=r"there is no account 'x' in accounts\.yaml; the accounts are: good\."):
        load(text, chosen=("x",))
    with pytest.raises(SettingsError, match="account bad: timezone='Mars'"):
        load(text, chosen=("bad",))
    assert load(text, chosen=("good",)).errors == ()


def test_an_account_can_have_its_own_database_url(load: Load) -> None:
    text = ENTRY + "    database_url_env: URL_OF_GOOD\n  - slug: other\n"
    found = load(text, URL_OF_GOOD="postgresql://good:pw@h/d", KLAVIYO_DATABASE_URL="postgresql://all:pw@h/d")
    assert [settings.database_url for settings in found.every] == [
        "postgresql://good:pw@h/d",
        "postgresql://all:pw@h/d",
    ]
    wrong_url = load(text, URL_OF_GOOD="mysql://u:hidden@h/d")
    assert "URL_OF_GOOD must have the form postgresql://" in wrong_url.errors[0]
    assert "hidden" not in wrong_url.errors[0]


@pytest.mark.parametrize(
    ("command", "materialization"),
    [
        ("Run `klaviyo-pipeline sync flows --from 2026-01-01 --force`.", "Materialize flows from 2026-01-01."),
        (
            "found it, run `klaviyo-pipeline sync flows_census --accept-deletes`.",
            "found it, materialize flows_census with `accept_deletes: true` in its run configuration.",
        ),
        ("then `klaviyo-pipeline sync`: rows are kept", "then materialize all assets: rows are kept"),
        ("and `klaviyo-pipeline sync census`", "and materialize all censuses"),
        (
            "Run `klaviyo-pipeline reset-windows`, then",
            f"Run `klaviyo-pipeline reset-windows` {FROM_ENVIRONMENT}, then",
        ),
    ],
)
def test_a_message_about_an_account_in_code_says_what_can_be_done_there(command: str, materialization: str) -> None:
    account = Account(described_in=IN_CODE)
    assert in_terms_of(account, in_terms_of(account, command)) == materialization


def test_messages_name_settings_as_in_the_file_that_describes_the_account(load: Load) -> None:
    [settings] = load(ENTRY).every
    reported = "set KLAVIYO_TIMEZONE=UTC, check KLAVIYO_API_KEY, or KLAVIYO_RATE_SCALE; KLAVIYO_ALERT_WEBHOOK_URL stays"
    assert in_terms_of(Account(), reported) == reported
    assert in_terms_of(settings.account, reported) == (
        "set timezone (accounts.yaml, good)=UTC, check KEY, or rate_scale (accounts.yaml, good); "
        "KLAVIYO_ALERT_WEBHOOK_URL stays"
    )
    assert in_terms_of(settings.account, "run `klaviyo-pipeline sync flows --force`, then `klaviyo-pipeline sync`") == (
        "run `klaviyo-pipeline sync --account good flows --force`, then `klaviyo-pipeline sync --account good`"
    )
    with pytest.raises(RuntimeError, match="Check KEY"), errors_in_terms_of(settings.account):
        raise RuntimeError("Check KLAVIYO_API_KEY.")


def test_every_field_is_documented() -> None:
    text = (PROJECT_ROOT / "docs" / "accounts.md").read_text(encoding="utf-8")
    assert [field for field in FIELDS if f"| `{field}` |" not in text] == []
    example = text.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(example)["accounts"]
