"""Reads and checks the `KLAVIYO_*` environment variables, which `variables.py` declares.

This module opens no connections, does not import Dagster, and changes the environment only to add the variables from
`.env`. The settings that it reads contain the name of the variable with the API key, never the key itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import load_dotenv

from klaviyo_pipeline.config.api_revisions import API_REVISIONS, DEFAULT_REVISION
from klaviyo_pipeline.config.time_zones import same_zone, zone_names
from klaviyo_pipeline.config.variables import VARIABLES

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "installed"
"""The folder of the migrations and of Dagster's configuration in a wheel. In a checkout, they are in its root."""

IS_CHECKOUT = not _INSTALLED.is_dir()
PROJECT_ROOT = _PACKAGE.parent if IS_CHECKOUT else Path.cwd()
"""The folder with `.env` and accounts.yaml: the checkout, or the working folder if the package is installed."""

FILES = PROJECT_ROOT if IS_CHECKOUT else _INSTALLED
"""The folder with `sql/`, dagster.yaml and workspace.yaml."""

SQL_DIR = FILES / "sql"
STATE_VARIABLE = "KLAVIYO_STATE_DIR"

SyncWindow = Literal["daily", "hourly"]

SLUG = re.compile(r"[a-z][a-z0-9_]{0,47}")
HALF_HOUR_CHANGES = "Australia/Lord_Howe"
"""The time zone whose clocks change by half an hour, which Dagster's hourly partitions do not support."""

OWNER = re.compile(r"team:[A-Za-z0-9_-]+|[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
"""An asset owner that Dagster accepts: a team or an email address."""

CROSS_ACCOUNT_SCHEMA = "klaviyo_overview"
"""The schema with the views over all accounts. No account can have this slug."""

RESERVED_SLUGS = frozenset({"public", "information_schema", "dagster", CROSS_ACCOUNT_SCHEMA})


class SettingsError(ValueError):
    """An invalid setting. The message names the variable and says what to write instead."""


@dataclass(frozen=True)
class Account:
    """The settings of one Klaviyo account: its API, its sync windows and its schema.

    `slug` is the name of the Postgres schema and, without a `key_prefix`, the prefix of the asset keys. `start_date` is
    a day in `timezone`, the zone of the sync windows. `api_key_variable` and `database_url_variable` are the names of
    the environment variables with the private API key and the database URL. `described_in` is where the settings
    are: a file name, `Account` or `the component`; None means the environment. `assets` are the names in the setting:
    `catalog.switched_on` says which assets they stand for. `conversion_metric_id` is one id, or several in a list or
    separated by commas. The metrics tables are computed for the first one.

    In your own code location, `api_key` and `database_url` can be the values themselves, or a `dg.EnvVar` whose value
    is read in a run. Neither is ever displayed. `migrate` says what a run does about migrations that the schema lacks:
    apply them (True), refuse to start (False), or nothing, because the commands migrate (None). `group` is the asset
    group, by default the slug. `asset_keys` maps the name of an asset to its key, if the key is not the prefix and the
    name.
    """

    slug: str = "klaviyo"
    api_key_variable: str = "KLAVIYO_API_KEY"
    api_url: str = "https://a.klaviyo.com"
    revision: str = DEFAULT_REVISION
    start_date: date = date(2025, 1, 1)
    timezone: str = "UTC"
    sync_window: SyncWindow = "daily"
    lookback_days: int = 7
    attribution_days: int = 5
    retention_days: int = 90
    conversion_metric_id: str | Sequence[str] | None = None
    assets: tuple[str, ...] = ("default",)
    template_html: bool = False
    rate_scale: float = 1.0
    owners: tuple[str, ...] = ()
    database_url_variable: str = "KLAVIYO_DATABASE_URL"
    described_in: str | None = None
    api_key: str | None = field(default=None, repr=False)
    database_url: str | None = field(default=None, repr=False)
    migrate: bool | None = None
    key_prefix: tuple[str, ...] = ()
    group: str | None = None
    asset_keys: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        ids = conversion_metrics(self.conversion_metric_id)
        # A single id is stored as a string. Several are stored as a tuple, so that the account stays hashable.
        object.__setattr__(self, "conversion_metric_id", ids if len(ids) > 1 else next(iter(ids), None))

    @property
    def conversion_metrics(self) -> tuple[str, ...]:
        """The conversion metrics of the setting, in order; empty if the sync chooses the metric."""
        return conversion_metrics(self.conversion_metric_id)

    @property
    def first_conversion_metric(self) -> str | None:
        """The conversion metric of the metrics tables; None if the sync chooses it."""
        return next(iter(self.conversion_metrics), None)

    def asset_key(self, name: str) -> list[str]:
        """The path of the asset key of the asset with this name."""
        return list(dict(self.asset_keys).get(name) or (*(self.key_prefix or (self.slug,)), name))

    def asset_name(self, path: Sequence[str]) -> str | None:
        """The name of the account's asset with this key; None if the account has no asset with this key."""
        return next((name for name in (path[-1], *dict(self.asset_keys)) if self.asset_key(name) == [*path]), None)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def today(self, now: datetime) -> date:
        """The account's calendar date at `now`."""
        return now.astimezone(self.zone).date()


@dataclass(frozen=True)
class Settings:
    """An account and its database URL. If the URL is None, the account is stored on the embedded server."""

    account: Account
    database_url: str | None = None


def conversion_metrics(setting: str | Sequence[str] | None) -> tuple[str, ...]:
    """The ids in the setting, without duplicates. The setting is a string with commas, or a sequence of ids."""
    named = setting.split(",") if isinstance(setting, str) else setting or ()
    return tuple(dict.fromkeys(one.strip() for one in named if one.strip()))


def state_dir() -> Path:
    """The folder for everything that the project writes: `KLAVIYO_STATE_DIR`, else `.klaviyo` in `PROJECT_ROOT`."""
    chosen = os.environ.get(STATE_VARIABLE, "").strip()
    return (PROJECT_ROOT / Path(chosen).expanduser()) if chosen else PROJECT_ROOT / ".klaviyo"


def plain_value(setting: str | None) -> str | None:
    """The value of a setting. If the setting is Dagster's `EnvVar`, its environment variable is read only here."""
    read = getattr(setting, "get_value", None)
    value: str | None = read() if read else setting
    return value


def load_dotenv_file(path: Path = PROJECT_ROOT / ".env") -> None:
    """Add the variables of the project's `.env` to the environment. Variables that are already set keep their value.

    Raises `SettingsError` if the file cannot be read or is not UTF-8.
    """
    if os.environ.get("KLAVIYO_IGNORE_DOTENV") == "1" or path.is_dir() or not path.exists():
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}); let the user of this process read it."
        ) from None
    except UnicodeDecodeError:
        text = "\0"
    # UTF-16 without a byte order mark is valid UTF-8, with a NUL next to each letter.
    if "\0" in text:
        raise SettingsError(f"{path} is not UTF-8; save it as UTF-8.")
    load_dotenv(stream=StringIO(text), override=False)


def load_settings(environ: Mapping[str, str] | None = None, *, now: datetime | None = None) -> Settings:
    """Read the settings from `environ`, by default the environment of the process and the project's `.env`.

    Raises `SettingsError` with a one-line message about the first invalid setting.
    """
    if environ is None:
        load_dotenv_file()
        environ = os.environ
    read = _Reader(environ)
    account = Account(
        slug=read.slug("KLAVIYO_ACCOUNT"),
        api_url=read.url("KLAVIYO_API_URL"),
        revision=read.revision("KLAVIYO_REVISION"),
        start_date=read.day("KLAVIYO_START_DATE"),
        timezone=read.zone("KLAVIYO_TIMEZONE"),
        sync_window=read.window("KLAVIYO_SYNC_WINDOW"),
        lookback_days=read.whole("KLAVIYO_LOOKBACK_DAYS", least=0, most=3650),
        attribution_days=read.whole("KLAVIYO_ATTRIBUTION_DAYS", least=0, most=365),
        retention_days=read.whole("KLAVIYO_RETENTION_DAYS", least=1, most=36500),
        conversion_metric_id=read.text("KLAVIYO_CONVERSION_METRIC_ID"),
        assets=read.names("KLAVIYO_ASSETS"),
        template_html=read.choice("KLAVIYO_TEMPLATE_HTML"),
        rate_scale=read.number("KLAVIYO_RATE_SCALE"),
        owners=read.owners("KLAVIYO_OWNERS"),
    )
    if account.start_date > account.today(now or datetime.now(UTC)):
        raise SettingsError(
            f"KLAVIYO_START_DATE={account.start_date} is in the future; set it to the first day to sync."
        )
    if account.sync_window == "hourly" and same_zone(account.timezone, HALF_HOUR_CHANGES):
        raise SettingsError(
            f"KLAVIYO_SYNC_WINDOW=hourly cannot be used with KLAVIYO_TIMEZONE={account.timezone}, where the clocks "
            "change by half an hour; use daily."
        )
    return Settings(account=account, database_url=read.database_url("KLAVIYO_DATABASE_URL"))


@dataclass(frozen=True)
class _Reader:
    """Typed access to environment variables. If a variable is unset or empty, its declared default applies."""

    environ: Mapping[str, str]

    def text(self, name: str) -> str:
        return self.environ.get(name, "").strip() or VARIABLES[name].default

    def slug(self, name: str) -> str:
        slug = self.text(name)
        if not SLUG.fullmatch(slug) or slug in RESERVED_SLUGS or slug.startswith("pg_"):
            raise SettingsError(
                f"{name}={slug!r} cannot be used as a schema name; use up to 48 lower-case letters, digits and "
                "underscores, starting with a letter. Names such as public, dagster and pg_… are reserved."
            )
        return slug

    def url(self, name: str) -> str:
        url = self.text(name).rstrip("/")
        if "@" in url:
            # The URL may contain a password, so the message does not quote it.
            raise SettingsError(f"{name} must not contain a user name or password.")
        if not _names_a_host(url):
            raise SettingsError(
                f"{name}={url!r} is not a valid http or https URL; the default is {VARIABLES[name].default}."
            )
        return url.removesuffix("/api")

    def revision(self, name: str) -> str:
        revision = self.text(name)
        if revision not in API_REVISIONS:
            raise SettingsError(
                f"{name}={revision!r} is not a revision that this release can read; set it to "
                f"{' or '.join(reversed(API_REVISIONS))}."
            )
        return revision

    def day(self, name: str) -> date:
        text = self.text(name)
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise SettingsError(f"{name}={text!r} is not a valid date; write it as YYYY-MM-DD.") from None
        if day.year < 2000:
            raise SettingsError(f"{name}={text} is too early: Klaviyo has no data from then; use 2000-01-01 or later.")
        return day

    def zone(self, name: str) -> str:
        zone = self.text(name)
        if zone not in zone_names():
            raise SettingsError(f"{name}={zone!r} is not an IANA time zone; use a name such as America/New_York.")
        return zone

    def window(self, name: str) -> SyncWindow:
        window = self.text(name)
        for known in get_args(SyncWindow):
            if window == known:
                return known  # type: ignore[no-any-return]
        raise SettingsError(f"{name}={window!r} is not a valid sync window; use daily or hourly.")

    def whole(self, name: str, *, least: int, most: int) -> int:
        text = self.text(name)
        if not re.fullmatch(r"\d{1,6}", text) or not least <= int(text) <= most:
            raise SettingsError(f"{name}={text!r} must be a whole number from {least} to {most}.")
        return int(text)

    def number(self, name: str) -> float:
        text = self.text(name)
        if not re.fullmatch(r"\d+(\.\d+)?", text):
            raise SettingsError(f"{name}={text!r} must be a number, 0 or more (0 switches pacing off).")
        return float(text)

    def choice(self, name: str) -> bool:
        text = self.text(name)
        if text not in ("yes", "no"):
            raise SettingsError(f"{name}={text!r} must be yes or no.")
        return text == "yes"

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(one.strip() for one in self.text(name).split(",") if one.strip())

    def owners(self, name: str) -> tuple[str, ...]:
        owners = self.names(name)
        for owner in owners:
            if not OWNER.fullmatch(owner):
                raise SettingsError(
                    f"{name}: {owner!r} is not a valid owner; use email addresses and teams, such as jo@example.com, "
                    "team:data."
                )
        return owners

    def database_url(self, name: str) -> str | None:
        url = self.text(name)
        if not url:
            return None
        if _names_several_hosts(url):
            raise SettingsError(
                f"{name} contains several hosts, but only one is supported; use an address that always leads to the "
                "primary, such as postgresql://user:password@host:5432/database."
            )
        if not _names_a_database(url):
            # The URL may contain a password, so the message does not quote it.
            raise SettingsError(
                f"{name} must have the form postgresql://user:password@host:5432/database, with special characters "
                "in the password %-escaped."
            )
        return url


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _names_several_hosts(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    # If the password contains an unescaped "/", urlsplit ends the host there, and the "@" is in the path.
    return "," in parts.netloc.rpartition("@")[2] and "@" not in parts.path


def _names_a_database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # If the password contains an unescaped "/", its beginning becomes the port, and `port` raises an error.
        usable = parts.port != 0
    except ValueError:
        return False
    return usable and parts.scheme in ("postgresql", "postgres") and bool(parts.path.strip("/"))
