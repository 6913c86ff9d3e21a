"""Runs every check of the installation. A check comes after the checks that it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from klaviyo_pipeline.catalog import ASSETS, switched_on
from klaviyo_pipeline.config.accounts import duplicates, in_terms_of, load_accounts
from klaviyo_pipeline.config.settings import Account, Settings, SettingsError
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.dagster_internals.storage_url import OWN_URL
from klaviyo_pipeline.diagnosis import clocks
from klaviyo_pipeline.diagnosis.account_access import KEY, AccountReport, check_account_access, not_requested
from klaviyo_pipeline.diagnosis.api_access import reach
from klaviyo_pipeline.diagnosis.dagster_access import CHECK as DAGSTER
from klaviyo_pipeline.diagnosis.dagster_access import (
    PARTITIONS,
    PARTITIONS_REMEDY,
    check_dagster,
    check_partitions,
    own_configuration_remedy,
)
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, guarded, ok, skipped, warning
from klaviyo_pipeline.diagnosis.warehouse_access import COUNTED_TWICE, check_warehouse, refusals_on_record
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key

SETTINGS, ACCOUNTS = "settings", "accounts"

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    return datetime.now(UTC)


def examine(environ: Mapping[str, str], clock: Clock = system_clock, *, chosen: Sequence[str] = ()) -> list[Finding]:
    """One finding for each check. A wrong setting, or an error of a server or a database, becomes a finding.

    `environ` must be the environment of this process, because Dagster and the embedded server read it too. `chosen`
    limits the checks to the accounts with these slugs; by default, all accounts are checked. With several accounts, the
    name of each check starts with the slug.
    """
    try:
        accounts = load_accounts(environ, chosen=chosen, now=clock())
    except SettingsError as error:
        message = Secrets.of(environ).one_line(error)
        return [failed(SETTINGS, message), skipped("all other checks", f"the {SETTINGS} cannot be used")]
    secrets = Secrets.of(environ, (settings.account for settings in accounts.every))
    findings = [failed(SETTINGS, secrets.redact(error)) for error in accounts.errors]
    account_ids: dict[str, str | None] = {}
    for place, settings in enumerate(accounts.every):
        slug = settings.account.slug
        account_ids[slug], found = _examine(settings, environ, secrets, clock, with_dagster=place == 0)
        findings += [replace(one, check=f"{slug}: {one.check}") for one in found] if len(accounts.every) > 1 else found
    twice = duplicates(accounts.every, environ, account_ids)
    remedy = f"{COUNTED_TWICE}; keep only one of the accounts, or give each its own key"
    return findings + [warning(ACCOUNTS, secrets.redact(line), remedy) for line in twice]


def _examine(
    settings: Settings, environ: Mapping[str, str], secrets: Secrets, clock: Clock, *, with_dagster: bool
) -> tuple[str | None, list[Finding]]:
    """The Klaviyo id of an account, and its findings. `with_dagster` adds those about Dagster, which accounts share."""
    try:
        summary = _summary(settings.account)
    except SettingsError as error:
        wrong = _in_terms_of(settings.account, failed(SETTINGS, secrets.one_line(error)))
        return None, [wrong, skipped("all other checks", f"the {SETTINGS} cannot be used")]
    reached = reach(settings.account, secrets, clock)
    access = _account_report(settings, secrets, clock, api_responds=reached.responds)
    account_id = access.identity.id if access.identity else None
    warehouse = check_warehouse(settings, account_id, secrets, clock)
    # By default, Dagster's storage is on the warehouse's server.
    if not with_dagster:
        dagster = []
    elif warehouse.reached or environ.get(OWN_URL, "").strip():
        dagster = guarded(DAGSTER, secrets, check_dagster, own_configuration_remedy())
    else:
        dagster = [skipped(DAGSTER, "the database cannot be reached, and Dagster's storage is on the same server")]
    if warehouse.is_migrated and all(one.verdict == "ok" for one in dagster):
        dagster += guarded(PARTITIONS, secrets, lambda: check_partitions(settings.account), PARTITIONS_REMEDY)
    agreement = clocks.compare(database=warehouse.ahead, klaviyo=reached.ahead)
    found = [ok(SETTINGS, summary), reached.finding, *access.findings, *warehouse.findings]
    return account_id, [_in_terms_of(settings.account, one) for one in (*found, *dagster, agreement)]


def _in_terms_of(account: Account, finding: Finding) -> Finding:
    remedy = finding.remedy and in_terms_of(account, finding.remedy)
    return replace(finding, found=in_terms_of(account, finding.found), remedy=remedy)


def _account_report(settings: Settings, secrets: Secrets, clock: Clock, *, api_responds: bool) -> AccountReport:
    try:
        key = api_key(settings.account.api_key_variable)
    except SettingsError as error:
        return not_requested(settings.account, "no API key is set", failed(KEY, secrets.one_line(error)))
    if not api_responds:
        return not_requested(settings.account, "Klaviyo's API does not respond")
    return check_account_access(settings.account, key, secrets, clock(), refusals_on_record(settings))


def _summary(account: Account) -> str:
    on = switched_on(account.assets)
    off = [asset for asset in ASSETS if asset not in on and not asset.endswith("_census")]
    return (
        f"schema {account.slug}, {account.sync_window} windows in {account.timezone} from {account.start_date}, "
        f"lookback {counted(account.lookback_days, 'day')}" + (f", switched off: {', '.join(off)}" if off else "")
    )
