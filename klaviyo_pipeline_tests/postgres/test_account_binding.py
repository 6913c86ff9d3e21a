"""The binding of a schema to an account: what is stored, what is refused, and how windows are reset."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from klaviyo_pipeline.config.settings import SQL_DIR, Account
from klaviyo_pipeline.postgres.account_binding import (
    AccountRefused,
    bind_schema,
    remember_conversion_metric,
    reset_windows,
)
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.postgres.store import NOON, SLUG, Store, flow, minute, synced

SHOP = Account(slug=SLUG, start_date=date(2025, 3, 1), timezone="Europe/Berlin")


def bind(
    store: Store, account: Account = SHOP, *, account_id: str = "SHOP01", verified_at: datetime = NOON, **reported: Any
) -> None:
    """Bind the schema in its own transaction."""
    settings = {"timezone": "Europe/Berlin", "currency": "EUR", **reported}
    with store.engine.begin() as connection:
        bind_schema(connection, account, account_id=account_id, verified_at=verified_at, **settings)


def bound(store: Store) -> tuple[Any, ...]:
    [row] = store.rows("SELECT account_id, window_timezone, sync_window, start_date FROM account")
    return row


def test_the_first_key_binds_the_schema(store: Store) -> None:
    bind(store)
    assert bound(store) == ("SHOP01", "Europe/Berlin", "daily", date(2025, 3, 1))
    assert store.rows("SELECT timezone, currency, verified_at FROM account") == [("Europe/Berlin", "EUR", minute(0))]


def test_a_key_of_another_account_is_refused_with_both_ids_and_the_remedy(store: Store) -> None:
    bind(store)
    with pytest.raises(
        AccountRefused, match=r"belongs to Klaviyo account SHOP01.*of account OTHER.*set KLAVIYO_ACCOUNT"
    ):
        bind(store, account_id="OTHER")
    assert bound(store)[0] == "SHOP01"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"timezone": "UTC"}, "KLAVIYO_TIMEZONE=Europe/Berlin"),
        ({"sync_window": "hourly"}, "KLAVIYO_SYNC_WINDOW=daily"),
    ],
)
def test_another_zone_or_length_of_the_windows_is_refused_with_the_remedy(
    store: Store, changed: dict[str, Any], message: str
) -> None:
    bind(store)
    store.record("flows", synced(0, minute(0)))
    with pytest.raises(AccountRefused, match=f"{message}.*klaviyo-pipeline reset-windows"):
        bind(store, replace(SHOP, **changed))
    assert bound(store)[1:3] == ("Europe/Berlin", "daily")


def test_zone_and_length_may_change_while_the_ledger_is_empty(store: Store) -> None:
    bind(store)
    bind(store, replace(SHOP, timezone="UTC", sync_window="hourly"))
    assert bound(store)[1:3] == ("UTC", "hourly")


def test_another_start_date_is_stored(store: Store) -> None:
    bind(store)
    store.record("flows", synced(0, minute(0)))
    bind(store, replace(SHOP, start_date=date(2025, 1, 1)))
    assert bound(store)[3] == date(2025, 1, 1)


def test_binding_again_within_the_hour_writes_nothing(store: Store) -> None:
    bind(store)
    before = store.versions("account")
    bind(store, verified_at=minute(59))
    assert store.versions("account") == before
    bind(store, verified_at=minute(61))
    assert store.value("SELECT verified_at FROM account") == minute(61)


def test_the_conversion_metric_is_kept_when_the_schema_is_bound_again(store: Store) -> None:
    bind(store)
    with store.engine.begin() as connection:
        remember_conversion_metric(connection, SLUG, "metric")
    bind(store, verified_at=minute(120))
    assert store.value("SELECT conversion_metric_id FROM account") == "metric"


def test_another_name_of_the_same_zone_keeps_the_windows_and_is_stored(store: Store) -> None:
    bind(store, replace(SHOP, timezone="US/Eastern"))
    store.record("flows", synced(0, minute(0)))
    bind(store, replace(SHOP, timezone="America/New_York"), verified_at=minute(1))
    assert bound(store)[1] == "America/New_York"
    assert len(store.ledger("flows", "status")) == 1


def test_reset_windows_deletes_the_windows_and_keeps_the_rows(store: Store) -> None:
    bind(store)
    store.merge("flows", [flow("a", minute(0))])
    store.record("flows", synced(0, minute(0)), synced(1, minute(0)))
    hourly = replace(SHOP, sync_window="hourly", timezone="UTC")
    with store.engine.begin() as connection:
        assert reset_windows(connection, hourly) == 2
    assert bound(store)[1:3] == ("UTC", "hourly")
    assert store.values("SELECT id FROM flows") == ["a"]
    assert store.ledger("flows", "status") == []
    bind(store, hourly)


def test_binding_a_second_schema_to_an_account_returns_the_first(store: Store) -> None:
    bind(store)
    migrate(store.dsn, "second", SQL_DIR)
    second = replace(SHOP, slug="second")

    def bind_second(account_id: str) -> list[str]:
        with store.engine.begin() as connection:
            settings = {"timezone": "Europe/Berlin", "currency": None, "verified_at": NOON}
            return bind_schema(connection, second, account_id=account_id, **settings)  # type: ignore[arg-type]

    assert bind_second("SHOP01") == [SLUG]
    assert bind_second("SHOP01") == [], "only the first binding returns the other schemas"
    store.run("DELETE FROM second.account")
    assert bind_second("OTHER") == []


def test_two_accounts_in_one_schema_are_impossible(store: Store) -> None:
    bind(store)
    with pytest.raises(Exception, match="account_pkey"):
        store.run("INSERT INTO account SELECT * FROM account")
