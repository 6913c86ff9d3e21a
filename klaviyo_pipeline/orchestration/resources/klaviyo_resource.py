"""The Klaviyo resource: the way to an account, opened by the run that needs it.

Resource fields show in the UI in plain text, so none holds a secret: an account names the environment variable of
its key, and the value is read when a run asks for it.
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

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.config.accounts import errors_in_terms_of, in_terms_of
from klaviyo_pipeline.config.settings import Account, SettingsError
from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount as KlaviyoAccount
from klaviyo_pipeline.klaviyo.api_usage import RequestCount
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.postgres.account_binding import bind_schema
from klaviyo_pipeline.postgres.api_calls import remember_calls
from klaviyo_pipeline.postgres.engine import reason
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline.postgres.warehouse import Warehouse

IDENTITY_IS_TRUSTED_SECONDS = 600.0

logger = logging.getLogger(__name__)

_open_sessions: weakref.WeakSet[threading.Event] = weakref.WeakSet()


def stop_requested() -> threading.Event:
    """An event that is set when the sessions of this process are told to stop."""
    stop = threading.Event()
    _open_sessions.add(stop)
    return stop


def stop_sessions() -> None:
    """End the waits of every session of this process: their runs fail within a second, cleanly."""
    for stop in list(_open_sessions):
        stop.set()


@dataclass(frozen=True)
class Session:
    """One run's way to Klaviyo and to the warehouse, with the account verified as this schema's."""

    account: Account
    identity: KlaviyoAccount
    client: KlaviyoClient
    engine: sa.Engine
    pacer: PostgresPacer
    count: RequestCount
    stop: threading.Event
    other_schemas: Sequence[str] = ()
    """Where this session took the schema: those that hold the same Klaviyo account already."""

    def now(self) -> datetime:
        """The database's clock, which all observations are timed by."""
        return self.pacer.now()

    @property
    def zone_is_right(self) -> bool:
        """Whether the windows are cut in the account's own zone."""
        return same_zone(self.identity.timezone, self.account.timezone)

    @property
    def zone_remedy(self) -> str:
        return in_terms_of(
            self.account,
            f"KLAVIYO_TIMEZONE is {self.account.timezone}, and the account's own zone is {self.identity.timezone}: "
            f"set KLAVIYO_TIMEZONE={self.identity.timezone}; report days are days of the account. "
            "If windows were synced in the other zone, run `klaviyo-pipeline reset-windows` then.",
        )

    @property
    def duplicate_notice(self) -> str:
        return (
            f"Klaviyo account {self.identity.id} is in schema {', '.join(self.other_schemas)} already, and now in "
            f"{self.account.slug} too: sums over all accounts count it twice. If that is not wanted, remove one of "
            "the two accounts and drop its schema."
        )


class KlaviyoResource(dg.ConfigurableResource[None]):
    """Klaviyo's API over httpx, paced by the published rates; each account brings its own key, address and scale."""

    @contextmanager
    def session(self, account: Account, warehouse: Warehouse, run_id: str | None = None) -> Iterator[Session]:
        """Open the way for one run; refuses a key of another account before anything is written.

        What was asked is noted under `run_id`, if there is one, however the run ends.
        """
        key = api_key(account.api_key_variable)
        stop = stop_requested()
        count = RequestCount()
        with errors_in_terms_of(account), warehouse.engine(account.slug) as engine:
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
                    # Before the transaction: who holds one connection and waits for another can wait for his like.
                    verified_at = pacer.now()
                    with engine.begin() as connection:
                        others = bind_schema(
                            connection,
                            account,
                            account_id=identity.id,
                            timezone=identity.timezone,
                            currency=identity.currency,
                            verified_at=verified_at,
                        )
                    session = Session(account, identity, client, engine, pacer, count, stop, others)
                    if others and run_id is not None:
                        dg.get_dagster_logger().warning(session.duplicate_notice)
                    yield session
                finally:
                    stop.set()
                    if run_id is not None:
                        _note_calls(engine, account.slug, run_id, count)


def _note_calls(engine: sa.Engine, schema: str, run_id: str, count: RequestCount) -> None:
    """A record for people: that it cannot be written is no reason for a run to fail, or to fail with this."""
    try:
        with engine.begin() as connection:
            remember_calls(connection, schema, run_id, count.by_endpoint)
    except sa.exc.SQLAlchemyError as error:
        logger.warning("what run %s asked of Klaviyo could not be noted: %s", run_id, reason(error))


def api_key(variable: str) -> str:
    """The private key. Raises `SettingsError` where it is not set."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(
            f"{variable} is not set: put a private API key with read scopes there (or into .env), "
            "or run `klaviyo-pipeline demo` to try without an account."
        )
    return key


_identities: dict[tuple[str, str], tuple[float, KlaviyoAccount]] = {}
# One for each key: an account that is slow to answer keeps no other waiting.
_identity_locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)


def cache_identity(account: Account, identity: KlaviyoAccount) -> None:
    """Take over what another process of ours has just asked: whose the key in the environment is."""
    known_by = _known_by(account.api_url, api_key(account.api_key_variable))
    with _identity_locks[known_by]:
        _identities[known_by] = (time.monotonic(), identity)


def _known_by(base_url: str, key: str) -> tuple[str, str]:
    return base_url, hashlib.sha256(key.encode()).hexdigest()


def _identity(client: KlaviyoClient, base_url: str, key: str) -> KlaviyoAccount:
    """Whose key this is; asked once in a while for a process, since the endpoint allows one request a second."""
    known_by = _known_by(base_url, key)
    with _identity_locks[known_by]:
        known = _identities.get(known_by)
        if known is not None and time.monotonic() - known[0] < IDENTITY_IS_TRUSTED_SECONDS:
            return known[1]
        identity = client.account()
        _identities[known_by] = (time.monotonic(), identity)
        return identity
