"""The Klaviyo resource: opens a session with an account for a run.

The UI displays the fields of resources in plain text, so no field contains a secret. A run reads the account's API key
when it opens a session, usually from the environment variable that the account names.
"""

import hashlib
import logging
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.config.accounts import errors_in_terms_of, in_terms_of
from klaviyo_pipeline.config.settings import Account, SettingsError, plain_value
from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount
from klaviyo_pipeline.klaviyo.api_usage import RequestCount
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.pacing import LocalPacer
from klaviyo_pipeline.orchestration.resources.account_settings import checked
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline.postgres.api_calls import remember_calls
from klaviyo_pipeline.postgres.engine import in_transaction, reason
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline.postgres.warehouse import Warehouse

IDENTITY_IS_TRUSTED_SECONDS = 600.0

logger = logging.getLogger(__name__)

_open_sessions: weakref.WeakSet[threading.Event] = weakref.WeakSet()


def stop_requested() -> threading.Event:
    """A new event, which `stop_sessions` will set."""
    stop = threading.Event()
    _open_sessions.add(stop)
    return stop


def stop_sessions() -> None:
    """End the waits of every session of this process, so that their runs fail cleanly within a second."""
    for stop in list(_open_sessions):
        stop.set()


@dataclass(frozen=True)
class Session:
    """Access to Klaviyo and the warehouse with a verified API key: it belongs to the account of this schema."""

    account: Account
    identity: KlaviyoAccount
    client: KlaviyoClient
    engine: sa.Engine
    pacer: PostgresPacer
    count: RequestCount
    stop: threading.Event
    other_schemas: Sequence[str] = ()
    """Other schemas that already contain the same Klaviyo account; set only if this session has bound the schema."""

    def now(self) -> datetime:
        """The time by the database's clock, which all observation times come from."""
        return self.pacer.now()

    @property
    def zone_is_right(self) -> bool:
        """Whether the sync windows use the account's own time zone."""
        return same_zone(self.identity.timezone, self.account.timezone)

    @property
    def zone_remedy(self) -> str:
        return in_terms_of(
            self.account,
            f"KLAVIYO_TIMEZONE is {self.account.timezone}, but the account's own time zone is "
            f"{self.identity.timezone}, which Klaviyo uses for report days. Set "
            f"KLAVIYO_TIMEZONE={self.identity.timezone}. If windows were already synced, then run "
            "`klaviyo-pipeline reset-windows`.",
        )

    @property
    def duplicate_notice(self) -> str:
        return (
            f"Klaviyo account {self.identity.id} is already in schema {', '.join(self.other_schemas)}, and is now also "
            f"in {self.account.slug}: sums over all accounts count it twice. If you do not want this, remove one of "
            "the two accounts and drop its schema."
        )


class KlaviyoResource(dg.ConfigurableResource[None]):
    """Access to Klaviyo's API, paced by the published rates. Each account has its own key, address and rate scale."""

    @contextmanager
    def client(self, account: Account) -> Iterator[KlaviyoClient]:
        """A client of this account, for your own asset: pages, reports and lookups, with pacing and retries.

        It needs no Postgres, so its pacing covers only its own requests. Raises `SettingsError` for an invalid setting
        of the account.
        """
        account = checked(account)
        stop = stop_requested()
        client = KlaviyoClient(
            api_key=key_of(account),
            base_url=account.api_url,
            revision=account.revision,
            pacer=LocalPacer(scale=account.rate_scale),
            stop=stop,
        )
        with errors_in_terms_of(account), client:
            try:
                yield client
            finally:
                stop.set()

    @contextmanager
    def session(self, account: Account, warehouse: Warehouse, run_id: str | None = None) -> Iterator[Session]:
        """Open a session. With a `run_id`, the requests of the session are counted for that run, even if it fails.

        Raises `AccountRefused`, before anything is written, if the key belongs to another account than the schema or if
        the ledger's windows do not fit the settings.
        """
        key = key_of(account)
        stop = stop_requested()
        count = RequestCount()
        with warehouse.engine(account.slug) as engine:
            pacer = PostgresPacer(engine, account.slug, scale=account.rate_scale)
            client = KlaviyoClient(
                api_key=key,
                base_url=account.api_url,
                revision=account.revision,
                pacer=pacer,
                stop=stop,
                on_request=count.add,
            )
            with client:
                try:
                    identity = _identity(client, account.api_url, key)
                    # Before the transaction: a thread that holds one connection while waiting for another can deadlock.
                    verified_at = pacer.now()
                    bind = partial(
                        bind_schema,
                        account=account,
                        account_id=identity.id,
                        timezone=identity.timezone,
                        currency=identity.currency,
                        verified_at=verified_at,
                    )
                    others = in_transaction(engine, bind)
                    session = Session(account, identity, client, engine, pacer, count, stop, others)
                    if others and run_id is not None:
                        dg.get_dagster_logger().warning(session.duplicate_notice)
                    yield session
                finally:
                    stop.set()
                    if run_id is not None:
                        _record_calls(engine, account.slug, run_id, count)


def _record_calls(engine: sa.Engine, schema: str, run_id: str, count: RequestCount) -> None:
    """Record how many requests a run sent. An error is only logged: syncs do not depend on these numbers."""
    try:
        in_transaction(engine, lambda connection: remember_calls(connection, schema, run_id, count.by_endpoint))
    except sa.exc.SQLAlchemyError as error:
        logger.warning("the number of API requests of run %s was not recorded: %s", run_id, reason(error))


def key_of(account: Account) -> str:
    """The account's private API key, from `api_key` or from the environment. Raises `SettingsError` if it is empty."""
    if account.api_key is None:
        return api_key(account.api_key_variable)
    key = (plain_value(account.api_key) or "").strip()
    if not key:
        line = f"account {account.slug}: KLAVIYO_API_KEY is empty; set it to a private API key with read scopes."
        raise SettingsError(in_terms_of(account, line))
    return key


def api_key(variable: str) -> str:
    """The private API key in this environment variable. Raises `SettingsError` if it is not set."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(
            f"{variable} is not set. Set it to a private API key with read scopes, in the environment or in .env. "
            "Without an account, run `klaviyo-pipeline demo`; `klaviyo-pipeline sandbox` serves the demo's account and "
            "prints its settings."
        )
    return key


_identities: dict[tuple[str, str], tuple[float, KlaviyoAccount]] = {}
# One lock for each key, so that a slow account does not block the others.
_identity_locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)


def cache_identity(account: Account, identity: KlaviyoAccount) -> None:
    """Cache the identity of the account's key, which another process of this sync has just requested."""
    cache_key = _cache_key(account.api_url, key_of(account))
    with _identity_locks[cache_key]:
        _identities[cache_key] = (time.monotonic(), identity)


def _cache_key(base_url: str, key: str) -> tuple[str, str]:
    return base_url, hashlib.sha256(key.encode()).hexdigest()


def _identity(client: KlaviyoClient, base_url: str, key: str) -> KlaviyoAccount:
    """The Klaviyo account of this key. It is cached, because the endpoint allows only one request a second."""
    cache_key = _cache_key(base_url, key)
    with _identity_locks[cache_key]:
        cached = _identities.get(cache_key)
        if cached is not None and time.monotonic() - cached[0] < IDENTITY_IS_TRUSTED_SECONDS:
            return cached[1]
        identity = client.account()
        _identities[cache_key] = (time.monotonic(), identity)
        return identity
