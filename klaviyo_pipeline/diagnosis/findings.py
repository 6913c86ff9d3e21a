"""The result of a check. This module also turns an error into one line without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

import psycopg
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import Account, SettingsError

Verdict = Literal["ok", "warning", "failed", "skipped"]

SECRET_URLS = ("KLAVIYO_DATABASE_URL", "KLAVIYO_DAGSTER_DATABASE_URL")
SECRET_KEYS = ("KLAVIYO_API_KEY",)


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was found and, if something is wrong, the remedy.

    `warning` means that something works today but needs attention. `skipped` means that the check could not run because
    of another finding.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "warning", found, remedy)


def failed(check: str, found: str, remedy: str | None = None) -> Finding:
    return Finding(check, "failed", found, remedy)


def skipped(check: str, because: str) -> Finding:
    return Finding(check, "skipped", f"not checked: {because}")


@dataclass(frozen=True)
class Secrets:
    """API keys, and passwords in database URLs. No finding may contain them."""

    values: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str], accounts: Iterable[Account] = ()) -> Secrets:
        """The secrets in this environment, including those in variables that the accounts name."""
        accounts = list(accounts)
        urls = {*SECRET_URLS, *(account.database_url_variable for account in accounts)}
        passwords = [_password(environ.get(name, "")) for name in urls]
        keys = [
            environ.get(name, "").strip()
            for name in {*SECRET_KEYS, *(account.api_key_variable for account in accounts)}
        ]
        found = {*keys, *passwords, *(unquote(password) for password in passwords)}
        return cls(frozenset(found - {""}))

    def one_line(self, error: BaseException) -> str:
        """The message of an error on one line, without secrets and without control characters."""
        if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
            error = error.orig
        text = str(error)
        if isinstance(error, psycopg.Error | sa.exc.SQLAlchemyError):
            # The following lines repeat the SQL statement.
            text = text.partition("\n")[0]
        return self.redact(" ".join(text.split())) or type(error).__name__

    def redact(self, text: str) -> str:
        for secret in self.values:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return "".join(letter if letter.isprintable() else "�" for letter in text)


def guarded(
    check: str, secrets: Secrets, examine: Callable[[], list[Finding]], remedy: str | None = None
) -> list[Finding]:
    """The findings of `examine`. An exception becomes a failed finding with this remedy.

    A `SettingsError` gets no remedy, because its message contains one.
    """
    try:
        return examine()
    except SettingsError as error:
        return [failed(check, secrets.one_line(error))]
    except Exception as error:
        return [failed(check, secrets.one_line(error), remedy)]


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
