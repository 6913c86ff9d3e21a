"""Whose schema it is: what is claimed, what is refused, and how windows are cut anew."""

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


def take(
    store: Store, account: Account = SHOP, *, account_id: str = "SHOP01", verified_at: datetime = NOON, **reported: Any
) -> None:
    """Claim the schema in a transaction of its own."""
    messages = {"timezone": "Europe/Berlin", "currency": "EUR", **reported}
    with store.engine.begin() as connection:
        bind_schema(connection, account, account_id=account_id, verified_at=verified_at, **messages)


def claimed(store: Store) -> tuple[Any, ...]:
    [row] = store.rows("SELECT account_id, window_timezone, sync_window, start_date FROM account")
    return row


def test_the_first_key_takes_the_schema(store: Store) -> None:
    take(store)
    assert claimed(store) == ("SHOP01", "Europe/Berlin", "daily", date(2025, 3, 1))
    assert store.rows("SELECT timezone, currency, verified_at FROM account") == [("Europe/Berlin", "EUR", minute(0))]


def test_a_key_of_another_account_is_refused_with_both_ids_and_the_remedy(store: Store) -> None:
    take(store)
    with pytest.raises(AccountRefused, match=r"holds Klaviyo account SHOP01.*of account OTHER.*set KLAVIYO_ACCOUNT"):
        take(store, account_id="OTHER")
    assert claimed(store)[0] == "SHOP01"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"timezone": "UTC"}, "KLAVIYO_TIMEZONE=Europe/Berlin"),
        ({"sync_window": "hourly"}, "KLAVIYO_SYNC_WINDOW=daily"),
    ],
)
def test_windows_that_would_be_cut_otherwise_are_refused_with_the_remedy(
    store: Store, changed: dict[str, Any], message: str
) -> None:
    take(store)
    store.record("flows", synced(0, minute(0)))
    with pytest.raises(AccountRefused, match=f"{message}.*klaviyo-pipeline reset-windows"):
        take(store, replace(SHOP, **changed))
    assert claimed(store)[1:3] == ("Europe/Berlin", "daily")


def test_while_the_ledger_is_empty_windows_may_be_cut_otherwise(store: Store) -> None:
    take(store)
    take(store, replace(SHOP, timezone="UTC", sync_window="hourly"))
    assert claimed(store)[1:3] == ("UTC", "hourly")


def test_another_start_date_is_taken_over(store: Store) -> None:
    take(store)
    store.record("flows", synced(0, minute(0)))
    take(store, replace(SHOP, start_date=date(2025, 1, 1)))
    assert claimed(store)[3] == date(2025, 1, 1)


def test_a_schema_claimed_again_within_the_hour_is_not_written(store: Store) -> None:
    take(store)
    before = store.versions("account")
    take(store, verified_at=minute(59))
    assert store.versions("account") == before
    take(store, verified_at=minute(61))
    assert store.value("SELECT verified_at FROM account") == minute(61)


def test_the_conversion_metric_is_kept_when_the_schema_is_claimed_again(store: Store) -> None:
    take(store)
    with store.engine.begin() as connection:
        remember_conversion_metric(connection, SLUG, "metric")
    take(store, verified_at=minute(120))
    assert store.value("SELECT conversion_metric_id FROM account") == "metric"


def test_another_name_of_the_zone_keeps_the_windows_and_is_stored_as_it_is_set(store: Store) -> None:
    take(store, replace(SHOP, timezone="US/Eastern"))
    store.record("flows", synced(0, minute(0)))
    take(store, replace(SHOP, timezone="America/New_York"), verified_at=minute(1))
    assert claimed(store)[1] == "America/New_York"
    assert len(store.ledger("flows", "status")) == 1


def test_reset_windows_forgets_the_windows_and_keeps_the_rows(store: Store) -> None:
    take(store)
    store.merge("flows", [flow("a", minute(0))])
    store.record("flows", synced(0, minute(0)), synced(1, minute(0)))
    hourly = replace(SHOP, sync_window="hourly", timezone="UTC")
    with store.engine.begin() as connection:
        assert reset_windows(connection, hourly) == 2
    assert claimed(store)[1:3] == ("UTC", "hourly")
    assert store.values("SELECT id FROM flows") == ["a"]
    assert store.ledger("flows", "status") == []
    take(store, hourly)


def test_taking_a_second_schema_for_an_account_names_the_first(store: Store) -> None:
    take(store)
    migrate(store.dsn, "second", SQL_DIR)
    second = replace(SHOP, slug="second")

    def bind(account_id: str) -> list[str]:
        with store.engine.begin() as connection:
            messages = {"timezone": "Europe/Berlin", "currency": None, "verified_at": NOON}
            return bind_schema(connection, second, account_id=account_id, **messages)  # type: ignore[arg-type]

    assert bind("SHOP01") == [SLUG]
    assert bind("SHOP01") == [], "it was said when the schema was taken"
    store.run("DELETE FROM second.account")
    assert bind("OTHER") == []


def test_two_accounts_in_one_schema_are_impossible(store: Store) -> None:
    take(store)
    with pytest.raises(Exception, match="account_pkey"):
        store.run("INSERT INTO account SELECT * FROM account")
