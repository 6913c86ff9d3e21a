"""The table `account`: which Klaviyo account the schema belongs to, and how its time is divided into windows."""

from __future__ import annotations

from datetime import date, datetime, time

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.catalog import ASSETS, switched_on
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.postgres.schema.system_tables import system_table


class AccountRefused(RuntimeError):
    """The key and the schema belong to different accounts, or the ledger's windows do not match the settings."""


# The schemas of this database that belong to an account and that the role may read.
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


def check_schema_owner(connection: sa.Connection, account: Account, account_id: str | None) -> str | None:
    """Return the id of the Klaviyo account that the schema belongs to, or None if it is not bound to an account yet.

    Nothing is changed. Raises `AccountRefused` as `bind_schema` does; without an `account_id`, only the windows are
    compared.
    """
    row = connection.execute(sa.select(system_table(account.slug, "account"))).mappings().first()
    if row is None:
        return None
    if account_id is not None and row["account_id"] != account_id:
        raise AccountRefused(
            f"schema {account.slug!r} belongs to Klaviyo account {row['account_id']}, but KLAVIYO_API_KEY "
            f"is a key of account {account_id}: set KLAVIYO_ACCOUNT to another name, or use the right key."
        )
    _check_windows(connection, account, row)
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
    """Bind the schema to this account, or refuse before anything is written.

    `account_id`, `timezone` and `currency` are from Klaviyo's answer for the key. If the schema was not bound before,
    the other schemas that belong to the same account are returned; otherwise none. Raises `AccountRefused` if the
    schema belongs to another account, or if the ledger's windows have another time zone or length than the settings.
    """
    is_new = check_schema_owner(connection, account, account_id) is None
    _delete_partial_windows(connection, account)
    table = system_table(account.slug, "account")
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
    # Two accounts may bind an empty schema at the same time: the second one is refused here.
    check_schema_owner(connection, account, account_id)
    record_assets(connection, account)
    return other_schemas(connection, account.slug, account_id) if is_new else []


def record_assets(connection: sa.Connection, account: Account) -> None:
    """Record which assets are switched on, so that the views leave out the assets that are off.

    Raises `SettingsError` if the setting of the assets is not valid.
    """
    table = system_table(account.slug, "assets")
    is_on = table.c.entity.in_(sorted(switched_on(account.assets)))
    connection.execute(
        sa.update(table).values(is_on=is_on).where(table.c.entity.in_(ASSETS), table.c.is_on.is_distinct_from(is_on))
    )


def stored_account_id(connection: sa.Connection, schema: str) -> str | None:
    """Return the id of the Klaviyo account that the schema belongs to, or None if it is not bound to one yet."""
    account_id: str | None = connection.execute(sa.select(system_table(schema, "account").c.account_id)).scalar()
    return account_id


def other_schemas(connection: sa.Connection, schema: str, account_id: str) -> list[str]:
    """The other schemas of this database that belong to this Klaviyo account and that the role may read."""
    others = [name for name in connection.execute(_SCHEMAS).scalars() if name != schema]
    return [name for name in others if stored_account_id(connection, name) == account_id]


def remember_conversion_metric(connection: sa.Connection, schema: str, metric_id: str) -> None:
    """Store the conversion metric of the latest report requests."""
    table = system_table(schema, "account")
    connection.execute(
        sa.update(table)
        .values(conversion_metric_id=metric_id)
        .where(table.c.conversion_metric_id.is_distinct_from(metric_id))
    )


def reset_windows(connection: sa.Connection, account: Account) -> int:
    """Delete all windows from the ledger, and store the time zone, window length and start date of the settings.

    The rows of the data tables stay. Returns the number of deleted windows.
    """
    windows = system_table(account.slug, "sync_windows")
    deleted = connection.execute(sa.delete(windows)).rowcount
    connection.execute(
        sa.update(system_table(account.slug, "account")).values(
            window_timezone=account.timezone, sync_window=account.sync_window, start_date=account.start_date
        )
    )
    return deleted


def _delete_partial_windows(connection: sa.Connection, account: Account) -> None:
    """If the start date was moved to an earlier day, delete the windows that were requested only in part.

    A week or a month that began before the schema's start date was requested only from that date on. Without its row in
    the ledger, it is requested again as a whole.
    """
    bound, windows = system_table(account.slug, "account"), system_table(account.slug, "sync_windows")
    query = sa.select(bound.c.start_date).where(bound.c.start_date > account.start_date)
    earlier: date | None = connection.execute(query).scalar_one_or_none()
    if earlier is not None:
        start = datetime.combine(earlier, time(), account.zone)
        connection.execute(sa.delete(windows).where(windows.c.window_start < start, windows.c.window_end > start))


def _check_windows(connection: sa.Connection, account: Account, row: sa.RowMapping) -> None:
    """Raise `AccountRefused` if the ledger has windows of another time zone or length than the settings."""
    timezone, sync_window = str(row["window_timezone"]), str(row["sync_window"])
    if sync_window == account.sync_window and same_zone(timezone, account.timezone):
        return
    windows = system_table(account.slug, "sync_windows")
    if not connection.execute(sa.select(sa.exists().select_from(windows))).scalar_one():
        return
    # If the ledger's time zone is not the account's own, and that of the settings is, the message must not suggest the
    # ledger's.
    was_wrong = same_zone(row["timezone"], account.timezone) and not same_zone(row["timezone"], timezone)
    back = "" if was_wrong else f"set KLAVIYO_TIMEZONE={timezone} and KLAVIYO_SYNC_WINDOW={sync_window}, or "
    raise AccountRefused(
        f"schema {account.slug!r} was synced in {sync_window} windows of {timezone}, but the settings define "
        f"{account.sync_window} windows of {account.timezone}: {back}run `klaviyo-pipeline reset-windows` to reset the "
        "windows (rows stay, every window is requested again)."
    )
