"""The warehouse: the Postgres databases with the tables of the accounts."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import sqlalchemy as sa

from klaviyo_pipeline.config.accounts import DATABASE_VARIABLE, errors_in_terms_of
from klaviyo_pipeline.config.settings import SQL_DIR, Account, SettingsError, load_settings, plain_value
from klaviyo_pipeline.postgres.engine import clear_errors, shared_engine, warehouse_url
from klaviyo_pipeline.postgres.schema.migrations import check_version, migrate


@dataclass(frozen=True, eq=False)
class Warehouse:
    """The databases of these accounts, by slug.

    An account's database URL is its own, or else the value of the variable that it names. Without a URL, the database
    is the embedded server. A slug that is not among the accounts uses the URL in `KLAVIYO_DATABASE_URL`.
    """

    accounts: Mapping[str, Account] = field(default_factory=dict)
    _migrated: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, accounts: Sequence[Account]) -> Self:
        """The warehouse of these accounts."""
        return cls({account.slug: account for account in accounts})

    def url(self, slug: str) -> str:
        """Return the libpq URL for this account; start the embedded server if no URL is set.

        Raises `SettingsError` if the account's own URL is empty or not valid.
        """
        account = self.accounts.get(slug, Account())
        if account.database_url is None:
            return warehouse_url(os.environ.get(account.database_url_variable))
        with errors_in_terms_of(account):
            url = plain_value(account.database_url)
            if not url:
                raise SettingsError(f"account {slug}: KLAVIYO_DATABASE_URL is empty; set it to a postgresql:// URL.")
            load_settings({DATABASE_VARIABLE: url})
        return url

    @contextmanager
    def engine(self, slug: str) -> Iterator[sa.Engine]:
        """Yield an engine for this account, shared within the process while it is in use.

        The first use checks the schema as `Account.migrate` says. If it is True, missing migrations are applied. If it
        is False, `MigrationError` is raised unless the schema has exactly the migrations of this version. If it is
        None, nothing is checked.
        """
        url = self.url(slug)
        with errors_in_terms_of(self.accounts.get(slug, Account())), clear_errors(url):
            self._prepare(slug, url)
            with shared_engine(url) as engine:
                yield engine

    def _prepare(self, slug: str, url: str) -> None:
        migrates = self.accounts[slug].migrate if slug in self.accounts else None
        if migrates is None:
            return
        with self._lock:
            if slug in self._migrated:
                return
            if migrates:
                migrate(url, slug, SQL_DIR)
            else:
                check_version(url, slug, SQL_DIR)
            self._migrated.add(slug)
