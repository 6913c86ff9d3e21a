"""What a check says, and how trouble becomes one line without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

import psycopg
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import Account

Verdict = Literal["ok", "warning", "failed", "skipped"]

SECRET_URLS = ("KLAVIYO_DATABASE_URL", "KLAVIYO_DAGSTER_DATABASE_URL")
SECRET_KEYS = ("KLAVIYO_API_KEY",)


@dataclass(frozen=True)
class Finding:
    """One check: what was found and, unless all is well, what to do about it.

    `warning` is what works today and may not tomorrow; `skipped` could not be tried because of another finding.
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
    return Finding(check, "skipped", f"not tried: {because}")


@dataclass(frozen=True)
class Secrets:
    """What no finding may show: the keys, and the passwords of the URLs."""

    values: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str], accounts: Iterable[Account] = ()) -> Secrets:
        """The secrets of this environment, those that the accounts name among them."""
        accounts = list(accounts)
        urls = {*SECRET_URLS, *(account.database_url_variable for account in accounts)}
        passwords = [_password(environ.get(name, "")) for name in urls]
        keys = [
            environ.get(name, "").strip()
            for name in {*SECRET_KEYS, *(account.api_key_variable for account in accounts)}
        ]
        found = {*keys, *passwords, *(unquote(password) for password in passwords)}
        return cls(frozenset(found - {""}))

    def reported(self, error: BaseException) -> str:
        """What an error says, on one line that a terminal can show."""
        if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
            error = error.orig
        text = str(error)
        if isinstance(error, psycopg.Error | sa.exc.SQLAlchemyError):
            # The lines that follow repeat the statement.
            text = text.partition("\n")[0]
        return self.redact(" ".join(text.split())) or type(error).__name__

    def redact(self, text: str) -> str:
        for secret in self.values:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return "".join(letter if letter.isprintable() else "�" for letter in text)


def guarded(check: str, secrets: Secrets, examine: Callable[[], list[Finding]]) -> list[Finding]:
    """What `examine` finds; an error that it does not expect is a finding too."""
    try:
        return examine()
    except Exception as error:
        return [failed(check, secrets.reported(error))]


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
