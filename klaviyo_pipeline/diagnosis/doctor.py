"""Every check, in the order in which one rests on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from klaviyo_pipeline.diagnosis import clocks
from klaviyo_pipeline.diagnosis.account import KEY, Told, ask_klaviyo, not_asked
from klaviyo_pipeline.diagnosis.dagster import CHECK as DAGSTER
from klaviyo_pipeline.diagnosis.dagster import look_at_dagster
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, guarded, ok, skipped
from klaviyo_pipeline.diagnosis.reaching import reach
from klaviyo_pipeline.diagnosis.warehouse import look_at_warehouse, passed_over_metrics
from klaviyo_pipeline.instance import OWN_URL
from klaviyo_pipeline.resources import api_key
from klaviyo_pipeline.settings import Account, Settings, SettingsError, load_settings

SETTINGS = "settings"

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    return datetime.now(UTC)


def examine(environ: Mapping[str, str], clock: Clock = system_clock) -> list[Finding]:
    """One finding for each check. Raises nothing that a setting, a server or a database can cause.

    `environ` is the process's own environment: what starts Dagster and the embedded server reads that.
    """
    secrets = Secrets.of(environ)
    try:
        settings = load_settings(environ, now=clock())
    except SettingsError as error:
        return [failed(SETTINGS, secrets.told(error)), skipped("everything else", f"the {SETTINGS} come first")]
    return [ok(SETTINGS, _summary(settings.account)), *_examine(settings, environ, secrets, clock)]


def _examine(settings: Settings, environ: Mapping[str, str], secrets: Secrets, clock: Clock) -> list[Finding]:
    reached = reach(settings.account, secrets, clock)
    told = _told(settings, secrets, clock, answers=reached.answers)
    account_id = told.identity.id if told.identity else None
    looked = look_at_warehouse(settings, account_id, secrets, clock)
    # Unless it has a database of its own, Dagster lives on the warehouse's server.
    if looked.reached or environ.get(OWN_URL, "").strip():
        dagster = guarded(DAGSTER, secrets, look_at_dagster)
    else:
        dagster = [skipped(DAGSTER, "it is kept on the database's server")]
    agreement = clocks.compare(database=looked.ahead, klaviyo=reached.ahead)
    return [reached.finding, *told.findings, *looked.findings, *dagster, agreement]


def _told(settings: Settings, secrets: Secrets, clock: Clock, *, answers: bool) -> Told:
    try:
        key = api_key(settings.account.api_key_variable)
    except SettingsError as error:
        return not_asked("there is no API key", failed(KEY, secrets.told(error)))
    if not answers:
        return not_asked("Klaviyo does not answer")
    return ask_klaviyo(settings.account, key, secrets, clock(), passed_over_metrics(settings))


def _summary(account: Account) -> str:
    return (
        f"schema {account.slug}, {account.sync_window} windows of {account.timezone} from {account.start_date}, "
        f"{account.lookback_days} trailing days"
    )
