"""The row that says whose schema this is, and how its time is cut."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.time_zones import same_zone


class AccountRefused(RuntimeError):
    """The key is another account's, or the windows would be cut otherwise than those in the ledger."""


# Schemas of this database that hold an account, as far as the role may read them.
_SCHEMAS = sa.text("""
SELECT schemas.nspname
FROM pg_namespace AS schemas
JOIN pg_class AS tables ON tables.relnamespace = schemas.oid AND tables.relname = 'account' AND tables.relkind = 'r'
JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attname = 'account_id'
WHERE has_schema_privilege(schemas.oid, 'USAGE')
    AND has_table_privilege(tables.oid, 'SELECT')
    AND to_regclass(format('%I.schema_migrations', schemas.nspname)) IS NOT NULL
ORDER BY schemas.nspname
""")


def _table(schema: str) -> sa.TableClause:
    names = (
        "singleton account_id timezone currency window_timezone sync_window start_date attribution_days "
        "conversion_metric_id verified_at"
    )
    return sa.table("account", *(sa.column(name) for name in names.split()), schema=schema)


def check_schema_owner(connection: sa.Connection, account: Account, account_id: str | None) -> str | None:
    """The id of the Klaviyo account that the schema holds; None while it is nobody's. Changes nothing.

    Raises `AccountRefused` as `bind_schema` does; without an `account_id` only the windows are compared.
    """
    row = connection.execute(sa.select(_table(account.slug))).mappings().first()
    if row is None:
        return None
    if account_id is not None and row["account_id"] != account_id:
        raise AccountRefused(
            f"schema {account.slug!r} holds Klaviyo account {row['account_id']}, and {account.api_key_variable} "
            f"is a key of account {account_id}: set KLAVIYO_ACCOUNT to another name, or use the right key."
        )
    _same_windows(connection, account, str(row["window_timezone"]), str(row["sync_window"]))
    return str(row["account_id"])


def bind_schema(
    connection: sa.Connection,
    account: Account,
    *,
    account_id: str,
    timezone: str,
    currency: str | None,
    verified_at: datetime,
) -> list[str]:
    """Take the schema for this account, or refuse before anything is written.

    `account_id`, `timezone` and `currency` are what Klaviyo says of the key. Raises `AccountRefused` where the
    schema holds another account, or where the ledger has windows of another zone or length. Returns the other
    schemas with the same account where this one was nobody's before.
    """
    is_new = check_schema_owner(connection, account, account_id) is None
    table = _table(account.slug)
    row_values = {
        "account_id": account_id,
        "timezone": timezone,
        "currency": currency,
        "window_timezone": account.timezone,
        "sync_window": account.sync_window,
        "start_date": account.start_date,
        "attribution_days": account.attribution_days,
        "verified_at": verified_at,
    }
    insert = pg.insert(table).values(singleton=True, **row_values)
    changed = sa.or_(
        *(table.c[name].is_distinct_from(insert.excluded[name]) for name in row_values if name != "verified_at"),
        table.c.verified_at < insert.excluded.verified_at - sa.text("interval '1 hour'"),
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["singleton"],
            set_={name: insert.excluded[name] for name in row_values},
            where=sa.and_(table.c.account_id == account_id, changed),
        )
    )
    # Two accounts may have found the schema empty at once: the one that came second is refused all the same.
    check_schema_owner(connection, account, account_id)
    return other_schemas(connection, account.slug, account_id) if is_new else []


def stored_account_id(connection: sa.Connection, schema: str) -> str | None:
    """The id of the Klaviyo account that the schema holds; None while it is nobody's."""
    found: str | None = connection.execute(sa.select(_table(schema).c.account_id)).scalar()
    return found


def other_schemas(connection: sa.Connection, schema: str, account_id: str) -> list[str]:
    """The other schemas of this database that hold this Klaviyo account, as far as the role may read them."""
    others = [name for name in connection.execute(_SCHEMAS).scalars() if name != schema]
    return [name for name in others if stored_account_id(connection, name) == account_id]


def remember_conversion_metric(connection: sa.Connection, schema: str, metric_id: str) -> None:
    """Keep the metric that reports are asked with."""
    table = _table(schema)
    connection.execute(
        sa.update(table)
        .values(conversion_metric_id=metric_id)
        .where(table.c.conversion_metric_id.is_distinct_from(metric_id))
    )


def reset_windows(connection: sa.Connection, account: Account) -> int:
    """Forget which windows were synced, so that time may be cut anew; return how many. Data tables stay."""
    windows = sa.table("sync_windows", schema=account.slug)
    forgotten = connection.execute(sa.delete(windows)).rowcount
    connection.execute(
        sa.update(_table(account.slug)).values(
            window_timezone=account.timezone, sync_window=account.sync_window, start_date=account.start_date
        )
    )
    return forgotten


def _same_windows(connection: sa.Connection, account: Account, timezone: str, sync_window: str) -> None:
    if sync_window == account.sync_window and same_zone(timezone, account.timezone):
        return
    windows = sa.table("sync_windows", schema=account.slug)
    if not connection.execute(sa.select(sa.exists().select_from(windows))).scalar_one():
        return
    raise AccountRefused(
        f"schema {account.slug!r} was synced in {sync_window} windows of {timezone}, and the settings say "
        f"{account.sync_window} windows of {account.timezone}: set KLAVIYO_TIMEZONE={timezone} and "
        f"KLAVIYO_SYNC_WINDOW={sync_window}, or run `klaviyo-pipeline reset-windows` to cut the windows anew "
        "(rows stay, every window is asked again)."
    )
