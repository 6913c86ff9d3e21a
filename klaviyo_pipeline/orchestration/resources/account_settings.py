"""Checks the settings of an account in code or in a component by the same rules as the environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from klaviyo_pipeline.catalog import switched_on
from klaviyo_pipeline.config.accounts import AS_VARIABLES, DATABASE_VARIABLE, IN_CODE, naming_fields
from klaviyo_pipeline.config.settings import Account, SettingsError, load_settings

_NAME = re.compile(r"[A-Za-z0-9_]+")
_READ = {**AS_VARIABLES, "database_url": DATABASE_VARIABLE}


def account_of(values: Mapping[str, object]) -> Account:
    """An account with these values of fields, typed or as text. Raises `SettingsError` that names an invalid field."""
    with naming_fields():
        account = load_settings({_READ[name]: _text(value) for name, value in values.items()}).account
        # An empty variable stands for the default assets, but an empty list is an error.
        switched_on(account.assets if values.get("assets", True) else ())
    return account


def checked(account: Account) -> Account:
    """The account with typed fields: text in place of a date, a list of assets or a prefix is converted.

    Raises `SettingsError` for an invalid value; the message names the parameter of `Account`.
    """
    values = {name: getattr(account, name) for name in AS_VARIABLES}
    if isinstance(account.database_url, str) and not hasattr(account.database_url, "get_value"):
        values["database_url"] = account.database_url
    try:
        found, prefix, group = account_of(values), key_path(account.key_prefix), group_name(account.group)
    except SettingsError as error:
        raise SettingsError(f"Account {account.slug!r}: {error}") from None
    return replace(
        account,
        **{name: getattr(found, name) for name in AS_VARIABLES},
        key_prefix=prefix,
        group=group,
        described_in=account.described_in or IN_CODE,
    )


def key_path(prefix: str | Sequence[str]) -> tuple[str, ...]:
    """The parts of a prefix of asset keys, such as `marketing/shop_uk`. Raises `SettingsError` for an invalid part."""
    parts = tuple(prefix.split("/")) if isinstance(prefix, str) else tuple(prefix)
    if not all(_NAME.fullmatch(part) for part in parts):
        raise SettingsError(
            f"key_prefix={prefix!r} cannot be used; use letters, digits and underscores, and / between the parts."
        )
    return parts


def group_name(group: str | None) -> str | None:
    """The asset group. Raises `SettingsError` for an invalid name."""
    if group is not None and not all(_NAME.fullmatch(part) for part in group.split("/")):
        raise SettingsError(
            f"group={group!r} cannot be used; use letters, digits and underscores, and / between the parts."
        )
    return group


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
