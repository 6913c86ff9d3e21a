"""Reads the accounts in `accounts.yaml` and checks each entry in the same way as the settings of the environment.

Without the file, the environment describes the only account. An invalid entry becomes an error message with its slug,
and the other accounts still work.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from klaviyo_pipeline.config.settings import (
    PROJECT_ROOT,
    Account,
    Settings,
    SettingsError,
    load_dotenv_file,
    load_settings,
)
from klaviyo_pipeline.config.strict_yaml import RepeatedKey, read_yaml

FILE_VARIABLE = "KLAVIYO_ACCOUNTS_FILE"
DEFAULT_FILE = PROJECT_ROOT / "accounts.yaml"
CHOSEN_VARIABLE = "KLAVIYO_ACCOUNT"
EVERY = "all"
"""The word that selects every account of the file, in place of a slug."""

RETENTION_VARIABLE = "KLAVIYO_RETENTION_DAYS"
"""The variable for the retention. It applies to all accounts, because they share Dagster's storage."""

AS_VARIABLES = {
    "slug": CHOSEN_VARIABLE,
    "timezone": "KLAVIYO_TIMEZONE",
    "start_date": "KLAVIYO_START_DATE",
    "sync_window": "KLAVIYO_SYNC_WINDOW",
    "lookback_days": "KLAVIYO_LOOKBACK_DAYS",
    "attribution_days": "KLAVIYO_ATTRIBUTION_DAYS",
    "conversion_metric_id": "KLAVIYO_CONVERSION_METRIC_ID",
    "assets": "KLAVIYO_ASSETS",
    "template_html": "KLAVIYO_TEMPLATE_HTML",
    "owners": "KLAVIYO_OWNERS",
    "rate_scale": "KLAVIYO_RATE_SCALE",
    "api_url": "KLAVIYO_API_URL",
    "revision": "KLAVIYO_REVISION",
}
"""The fields of an entry that replace an environment variable, each with this variable."""

KEY_VARIABLE, DATABASE_VARIABLE = Account.api_key_variable, Account.database_url_variable
KEY_FIELD, DATABASE_FIELD = "api_key_env", "database_url_env"
FIELDS = (*AS_VARIABLES, KEY_FIELD, DATABASE_FIELD)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET = re.compile(r"\s*pk_", re.IGNORECASE)
"""The beginning of a Klaviyo private key."""

IN_CODE, IN_COMPONENT = "Account", "the component"
"""The values of `Account.described_in` for accounts in your own code, which the command line does not know."""

_COMMAND = re.compile(
    r"`klaviyo-pipeline (check|get|list|metrics|migrate|plan|reset-clock|reset-windows|status|sync)"
    r"(?=[ `])(?! --account)"
)
"""In a message, a command that accepts the option `--account` and is written without it."""

_SYNC = re.compile(r"(?:([Rr])un )?`klaviyo-pipeline sync(?: ([^`]+))?`")
"""A sync command in a message. For an account in code, the message names a materialization instead."""

FROM_ENVIRONMENT = "with the account's settings in the environment (docs/library.md)"

_RESET = re.compile(rf"`klaviyo-pipeline (?:reset-windows|reset-clock)`(?! {re.escape(FROM_ENVIRONMENT)})")
"""A reset command in a message. For an account in code, it needs the account's settings in the environment."""


@dataclass(frozen=True)
class Accounts:
    """The settings of each account, and one message for each invalid entry.

    `file` is None if the environment describes the only account.
    """

    every: tuple[Settings, ...]
    errors: tuple[str, ...] = ()
    file: Path | None = None

    def narrowed(self, slugs: Sequence[str]) -> Accounts:
        """The accounts with these slugs, in this order, without the messages about invalid entries.

        Returns all accounts and messages if there are no slugs, or if `all` is among them. Raises `SettingsError` for
        an unknown slug.
        """
        if not slugs or EVERY in slugs:
            return self
        by_slug = {settings.account.slug: settings for settings in self.every}
        for slug in slugs:
            if slug not in by_slug:
                raise SettingsError(self._absent(slug))
        return replace(self, every=tuple(by_slug[slug] for slug in dict.fromkeys(slugs)), errors=())

    def _absent(self, slug: str) -> str:
        wrong = next((error for error in self.errors if f"account {slug}:" in error), None)
        if wrong is not None:
            return wrong
        known = ", ".join(settings.account.slug for settings in self.every)
        where = self.file.name if self.file else f"the environment ({CHOSEN_VARIABLE})"
        return f"there is no account {slug!r} in {where}; the accounts are: {known}."


def load_accounts(
    environ: Mapping[str, str] | None = None, *, chosen: Sequence[str] = (), now: datetime | None = None
) -> Accounts:
    """The accounts of the file, or the account of the environment if there is no file. `chosen` selects by slug.

    If there is a file and `chosen` is empty, the slugs in KLAVIYO_ACCOUNT select the accounts. Raises `SettingsError`
    if the whole file or the account of the environment is invalid, and for an unknown slug.
    """
    if environ is None:
        load_dotenv_file()
        environ = os.environ
    file = accounts_file(environ)
    if file is None:
        return Accounts((load_settings(environ, now=now),)).narrowed(chosen)
    found = read_accounts(file, environ, now or datetime.now(UTC))
    return found.narrowed(chosen or environ.get(CHOSEN_VARIABLE, "").split())


def duplicates(
    every: Sequence[Settings], environ: Mapping[str, str], account_ids: Mapping[str, str | None]
) -> list[str]:
    """A message for each Klaviyo account that several of these accounts refer to.

    Two accounts refer to the same one if they have the same key for the same API, or the same id in `account_ids`.
    `account_ids` maps each slug to Klaviyo's account id, or to None if the id is unknown.
    """
    by_id, by_key = defaultdict(list), defaultdict(list)
    for settings in every:
        account = settings.account
        by_id[account_ids.get(account.slug)].append(account)
        by_key[account.api_url, environ.get(account.api_key_variable, "").strip()].append(account)
    same = {id: group for id, group in by_id.items() if id and len(group) > 1}
    lines = [f"{_slugs(group)} are the same Klaviyo account, {id}" for id, group in same.items()]
    return lines + [
        f"{_slugs(group)} have the same API key ({', '.join(dict.fromkeys(one.api_key_variable for one in group))})"
        for (_, key), group in by_key.items()
        if key and len(group) > 1 and not any(set(group) <= set(known) for known in same.values())
    ]


def _slugs(accounts: Sequence[Account]) -> str:
    *most, last = (account.slug for account in accounts)
    return f"{', '.join(most)} and {last}"


def accounts_file(environ: Mapping[str, str]) -> Path | None:
    """The path of the file with the accounts; None if the environment describes the only account.

    A relative path in KLAVIYO_ACCOUNTS_FILE starts at the project's root. KLAVIYO_IGNORE_DOTENV=1 ignores the default
    file as well as `.env`.
    """
    named = environ.get(FILE_VARIABLE, "").strip()
    if named:
        return PROJECT_ROOT / Path(named).expanduser()
    return DEFAULT_FILE if environ.get("KLAVIYO_IGNORE_DOTENV") != "1" and DEFAULT_FILE.is_file() else None


def read_accounts(file: Path, environ: Mapping[str, str], now: datetime) -> Accounts:
    """The accounts of this file. Database URLs and the retention are not in the file: they are read from `environ`."""
    reading = _File(file, environ, now)
    document = reading.document()
    entries = document["accounts"]
    reading.check_defaults(document.get("defaults") or {})
    twice = {slug for slug, times in Counter(_slug(entry) for entry in entries).items() if slug and times > 1}
    repeated = "several entries have this slug, so none of them is used; give each its own slug."
    found, errors = [], [reading.line(f"account {slug}: {repeated}") for slug in sorted(twice)]
    for number, entry in enumerate(entries, start=1):
        if _slug(entry) in twice:
            continue
        try:
            found.append(reading.settings(number, entry, document.get("defaults") or {}))
        except SettingsError as error:
            errors.append(str(error))
    if not found:
        raise SettingsError(" ".join(errors))
    return Accounts(tuple(found), tuple(errors), file)


def in_terms_of(account: Account, text: str) -> str:
    """Adapt a message to an account that is described in accounts.yaml, in code or in a component.

    The name of a setting becomes the name of its field. For an API key or a database URL in a variable of the account's
    own, it becomes the name of this variable. For an account in accounts.yaml, a command gets the option `--account`:
    without it, the command would fail or work on every account. For an account in code or in a component, a sync
    command becomes a materialization.
    """
    if account.described_in is None:
        return text
    where = f" ({account.described_in}, {account.slug})"
    names = {variable: field + where for field, variable in AS_VARIABLES.items()} | {
        KEY_VARIABLE: account.api_key_variable
        if account.api_key is None
        else getattr(account.api_key, "env_var_name", f"api_key{where}"),
        DATABASE_VARIABLE: account.database_url_variable
        if account.database_url is None
        else getattr(account.database_url, "env_var_name", f"database_url{where}"),
    }
    if account.described_in in (IN_CODE, IN_COMPONENT):
        text = _RESET.sub(rf"\g<0> {FROM_ENVIRONMENT}", _SYNC.sub(_materialize, text))
    else:
        text = _COMMAND.sub(rf"`klaviyo-pipeline \1 --account {account.slug}", text)
    return _renamed(text, names)


def _materialize(sync: re.Match[str]) -> str:
    """The words that replace a sync command. `--force` is dropped: a materialization always requests its windows."""
    verb = "Materialize" if sync[1] == "R" else "materialize"
    everything = {None: "all assets", "census": "all censuses"}
    if sync[2] in everything:
        return f"{verb} {everything[sync[2]]}"
    configured = "with `accept_deletes: true` in its run configuration"
    what = sync[2].removesuffix(" --force").replace("--accept-deletes", configured)
    return f"{verb} {what.replace('--', '')}"


@contextmanager
def naming_fields() -> Iterator[None]:
    """Within the block, a `SettingsError` names the field of a setting instead of its environment variable."""
    try:
        yield
    except SettingsError as error:
        fields = {variable: field for field, variable in AS_VARIABLES.items()} | {DATABASE_VARIABLE: "database_url"}
        raise SettingsError(_renamed(str(error), fields)) from None


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """`text` with each environment variable in it replaced by its name in `names`, if it has one."""
    return re.sub(r"KLAVIYO_[A-Z_]+\b", lambda match: names.get(match[0], match[0]), text)


@contextmanager
def errors_in_terms_of(account: Account) -> Iterator[None]:
    """Within the block, rewrite the message of every error with `in_terms_of`."""
    try:
        yield
    except Exception as error:
        error.args = tuple(in_terms_of(account, text) if isinstance(text, str) else text for text in error.args)
        raise


@dataclass(frozen=True)
class _File:
    path: Path
    environ: Mapping[str, str]
    now: datetime

    def line(self, text: str) -> str:
        return f"{self.path.name}: {text}"

    def refuse(self, text: str) -> SettingsError:
        return SettingsError(self.line(text))

    def document(self) -> dict[str, Any]:
        """The parsed file. Messages about its syntax never quote an API key that it contains by mistake."""
        try:
            document = read_yaml(self.path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SettingsError(
                f"{FILE_VARIABLE}: {self.path} cannot be read ({error.strerror}); correct the path, or let the "
                "user of this process read the file."
            ) from None
        except UnicodeDecodeError:
            raise self.refuse("the file is not UTF-8; save it as UTF-8.") from None
        except RepeatedKey as error:
            key = "a field" if SECRET.match(error.key) else f"the field {error.key}"
            raise self.refuse(
                f"{key} is repeated in lines {error.lines[0]} and {error.lines[1]}; each account must begin with a "
                "dash."
            ) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1})" if mark else ""
            raise self.refuse(f"the file is not valid YAML{where}; see accounts.yaml.example.") from None
        if not isinstance(document, dict) or not isinstance(document.get("accounts"), list):
            raise self.refuse("the file must contain a list `accounts:`; see accounts.yaml.example.")
        if not document["accounts"]:
            raise self.refuse("the list `accounts:` is empty; add an account, or remove the file.")
        self._known("the file", document, ("accounts", "defaults"))
        return document

    def check_defaults(self, defaults: object) -> None:
        if not isinstance(defaults, dict):
            raise self.refuse("`defaults:` must contain fields, such as timezone: UTC.")
        self._no_key("defaults", defaults)
        self._known("defaults", defaults, tuple(name for name in FIELDS if name not in ("slug", KEY_FIELD)))
        self._read("defaults", defaults)

    def settings(self, number: int, entry: object, defaults: Mapping[str, Any]) -> Settings:
        """The settings of one entry. If a field is invalid, the `SettingsError` names the entry and the field."""
        if not isinstance(entry, dict):
            raise self.refuse(f"entry {number}: the entry must contain fields, such as slug: my_shop.")
        slug = _slug(entry)
        who = f"account {slug}" if slug else f"entry {number}"
        self._no_key(who, entry)
        self._known(who, entry, FIELDS)
        if entry.get("slug") is None:
            raise self.refuse(f"{who}: the field slug is missing; set it to a name for the account's schema.")
        if slug == EVERY:
            raise self.refuse(f"{who}: the slug {EVERY} is reserved, because it selects all accounts; choose another.")
        fields = {**defaults, **entry}
        settings = self._read(who, fields)
        account = replace(
            settings.account,
            api_key_variable=self._variable(who, KEY_FIELD, fields, f"KLAVIYO_API_KEY_{str(slug).upper()}"),
            database_url_variable=self._variable(who, DATABASE_FIELD, fields, Account.database_url_variable),
            described_in=self.path.name,
        )
        url = {Account.database_url_variable: self.environ.get(account.database_url_variable, "")}
        try:
            return replace(settings, account=account, database_url=load_settings(url, now=self.now).database_url)
        except SettingsError as error:
            text = str(error).replace(Account.database_url_variable, account.database_url_variable)
            raise self.refuse(f"{who}: {text}") from None

    def _no_key(self, who: str, fields: Mapping[Any, Any]) -> None:
        if any(SECRET.match(text) for text in _texts(fields)):
            raise self.refuse(
                f"{who}: a field looks like an API key; put the key into an environment variable, and the name of that "
                f"variable into {KEY_FIELD}."
            )

    def _known(self, who: str, fields: Mapping[Any, Any], names: Sequence[str]) -> None:
        for name in fields:
            if name not in names:
                close = difflib.get_close_matches(str(name), names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(names)}."
                raise self.refuse(f"{who}: there is no field {name!r}; {hint}")

    def _read(self, who: str, fields: Mapping[str, Any]) -> Settings:
        """The settings in these fields. Each field is read like the environment variable that it replaces."""
        values = {
            AS_VARIABLES[name]: self._text(who, name, value) for name, value in fields.items() if name in AS_VARIABLES
        }
        values[RETENTION_VARIABLE] = self.environ.get(RETENTION_VARIABLE, "")
        try:
            with naming_fields():
                return load_settings(values, now=self.now)
        except SettingsError as error:
            raise self.refuse(f"{who}: {error}") from None

    def _text(self, who: str, name: str, value: object) -> str:
        if name == "template_html" and isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, bool):
            raise self.refuse(f"{who}: YAML reads the value of {name} as true or false; write it in quotes.")
        if name in ("owners", "assets", "conversion_metric_id") and isinstance(value, list):
            return ", ".join(str(one) for one in value)
        if isinstance(value, list | dict):
            raise self.refuse(f"{who}: {name} must be a single value.")
        return "" if value is None else str(value)

    def _variable(self, who: str, name: str, fields: Mapping[str, Any], default: str) -> str:
        variable = fields.get(name)
        if variable is None:
            return default
        if not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
            # The message does not quote the value, which may be the key or the URL itself.
            raise self.refuse(f"{who}: {name} must be the name of an environment variable, such as {default}.")
        return variable


def _slug(entry: object) -> str:
    """The slug of an entry, for messages; empty if it is missing or looks like an API key."""
    slug = entry.get("slug") if isinstance(entry, dict) else None
    return slug if isinstance(slug, str) and not SECRET.match(slug) else ""


def _texts(value: object) -> Iterator[str]:
    """Every string in a value and in the lists and mappings inside it, including field names."""
    if isinstance(value, dict):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
