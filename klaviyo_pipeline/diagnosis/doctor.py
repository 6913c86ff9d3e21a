"""Every check, in the order in which one rests on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from klaviyo_pipeline.config.accounts import duplicates, in_terms_of, load_accounts
from klaviyo_pipeline.config.settings import Account, Settings, SettingsError
from klaviyo_pipeline.dagster_internals.storage import OWN_URL
from klaviyo_pipeline.diagnosis import clocks
from klaviyo_pipeline.diagnosis.account_access import KEY, AccountReport, check_account_access, not_requested
from klaviyo_pipeline.diagnosis.api_access import reach
from klaviyo_pipeline.diagnosis.dagster_access import CHECK as DAGSTER
from klaviyo_pipeline.diagnosis.dagster_access import check_dagster
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, guarded, ok, skipped, warning
from klaviyo_pipeline.diagnosis.warehouse_access import COUNTED_TWICE, check_warehouse, refusals_on_record
from klaviyo_pipeline.orchestration.resources.klaviyo_resource import api_key

SETTINGS, ACCOUNTS = "settings", "accounts"

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    return datetime.now(UTC)


def examine(environ: Mapping[str, str], clock: Clock = system_clock, *, chosen: Sequence[str] = ()) -> list[Finding]:
    """One finding for each check. Raises nothing that a setting, a server or a database can cause.

    `environ` is the process's own environment: what starts Dagster and the embedded server reads that. Of several
    accounts, all or those `chosen` by slug, each has its own findings, whose checks begin with its slug.
    """
    try:
        accounts = load_accounts(environ, chosen=chosen, now=clock())
    except SettingsError as error:
        reported = Secrets.of(environ).reported(error)
        return [failed(SETTINGS, reported), skipped("everything else", f"the {SETTINGS} come first")]
    secrets = Secrets.of(environ, (settings.account for settings in accounts.every))
    findings = [failed(SETTINGS, secrets.redact(error)) for error in accounts.errors]
    account_ids: dict[str, str | None] = {}
    for place, settings in enumerate(accounts.every):
        slug = settings.account.slug
        account_ids[slug], found = _examine(settings, environ, secrets, clock, with_dagster=place == 0)
        findings += [replace(one, check=f"{slug}: {one.check}") for one in found] if len(accounts.every) > 1 else found
    twice = duplicates(accounts.every, environ, account_ids)
    return findings + [warning(ACCOUNTS, secrets.redact(line), COUNTED_TWICE) for line in twice]


def _examine(
    settings: Settings, environ: Mapping[str, str], secrets: Secrets, clock: Clock, *, with_dagster: bool
) -> tuple[str | None, list[Finding]]:
    """The id of an account in Klaviyo, and its findings; those of Dagster's instance, which all share, on request."""
    reached = reach(settings.account, secrets, clock)
    reported = _reported(settings, secrets, clock, answers=reached.answers)
    account_id = reported.identity.id if reported.identity else None
    looked = check_warehouse(settings, account_id, secrets, clock)
    # Unless it has a database of its own, Dagster lives on the warehouse's server.
    if not with_dagster:
        dagster = []
    elif looked.reached or environ.get(OWN_URL, "").strip():
        dagster = guarded(DAGSTER, secrets, check_dagster)
    else:
        dagster = [skipped(DAGSTER, "it is kept on the database's server")]
    agreement = clocks.compare(database=looked.ahead, klaviyo=reached.ahead)
    found = [ok(SETTINGS, _summary(settings.account)), reached.finding, *reported.findings, *looked.findings]
    return account_id, [_in_terms_of(settings.account, one) for one in (*found, *dagster, agreement)]


def _in_terms_of(account: Account, finding: Finding) -> Finding:
    remedy = finding.remedy and in_terms_of(account, finding.remedy)
    return replace(finding, found=in_terms_of(account, finding.found), remedy=remedy)


def _reported(settings: Settings, secrets: Secrets, clock: Clock, *, answers: bool) -> AccountReport:
    try:
        key = api_key(settings.account.api_key_variable)
    except SettingsError as error:
        return not_requested("there is no API key", failed(KEY, secrets.reported(error)))
    if not answers:
        return not_requested("Klaviyo does not answer")
    return check_account_access(settings.account, key, secrets, clock(), refusals_on_record(settings))


def _summary(account: Account) -> str:
    return (
        f"schema {account.slug}, {account.sync_window} windows of {account.timezone} from {account.start_date}, "
        f"{account.lookback_days} trailing days"
    )
