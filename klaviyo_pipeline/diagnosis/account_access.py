"""Checks that need the API key: the account, the scopes, the API revision, the time zone and the conversion metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

from klaviyo_pipeline.config.api_revisions import API_REVISIONS, DEFAULT_REVISION
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.config.wording import counted
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, ok, skipped, warning
from klaviyo_pipeline.diagnosis.scopes import scope_checks, scope_findings
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric, find_conversion_metric
from klaviyo_pipeline.klaviyo.errors import BadRequest, Forbidden, KlaviyoError, OtherRevision, RevisionRetired
from klaviyo_pipeline.klaviyo.pacing import LocalPacer
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.reports import API_REPORTS
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.postgres.refusals import Refusal

KEY, REVISION, ZONE, METRIC = "API key", "API revision", "time zone", "conversion metric"
RETIREMENT_IS_NEAR_DAYS = 90
UPGRADE = "upgrade klaviyo-pipeline to a version that uses a newer revision"

FAIL_FAST = RetryPolicy(ceilings=(1.0,), longest_retry_after=10.0)
"""Each request is retried only once, because a person waits for the result."""


@dataclass(frozen=True)
class AccountReport:
    """The findings, and the account of the key. `identity` is None if Klaviyo did not return the account."""

    findings: list[Finding]
    identity: KlaviyoAccount | None = None


def not_requested(account: Account, because: str, *known: Finding) -> AccountReport:
    """One finding for each check of this module. Checks without a finding in `known` are skipped for `because`."""
    by_check = {finding.check: finding for finding in known}
    checks = (KEY, REVISION, *scope_checks(account), ZONE, METRIC)
    return AccountReport([by_check.get(check) or skipped(check, because) for check in checks])


def check_account_access(
    account: Account, key: str, secrets: Secrets, now: datetime, refusals: Sequence[Refusal] = ()
) -> AccountReport:
    """Run the checks of this module. If Klaviyo rejects the key or the revision, the other checks are skipped.

    `now` is timezone-aware. `refusals` are the stored refusals of report statistics.
    """
    try:
        with _client(account, key) as client:
            return _AccessCheck(account, client, secrets, now, refusals).report()
    except (RevisionRetired, OtherRevision, BadRequest) as error:
        finding = failed(REVISION, secrets.one_line(error), _other_revision(account.revision, now.date()))
        return not_requested(account, f"the {REVISION} cannot be used", finding)
    except KlaviyoError as error:
        return not_requested(account, f"the {KEY} cannot be used", failed(KEY, secrets.one_line(error)))


@contextmanager
def _client(account: Account, key: str) -> Iterator[KlaviyoClient]:
    # The shared pacer would write to the warehouse.
    pacer = LocalPacer(scale=account.rate_scale)
    with KlaviyoClient(
        api_key=key, base_url=account.api_url, revision=account.revision, pacer=pacer, retry=FAIL_FAST
    ) as client:
        yield client


@dataclass(frozen=True)
class _AccessCheck:
    account: Account
    client: KlaviyoClient
    secrets: Secrets
    now: datetime
    refusals: Sequence[Refusal]

    def report(self) -> AccountReport:
        """Every finding. Raises `KlaviyoError` if Klaviyo rejects the key or the revision."""
        identity: KlaviyoAccount | None = None
        refused: Forbidden | None = None
        try:
            identity = self.client.account()
        except Forbidden as error:
            refused = error
        scopes = scope_findings(self.client, self.account, refused, self.secrets, self.now)
        metric = self._metric(scopes[-1])
        return AccountReport([self._key(identity), self._revision(), *scopes, self._zone(identity), metric], identity)

    def _key(self, identity: KlaviyoAccount | None) -> Finding:
        if identity is None:
            return ok(KEY, "valid, but Klaviyo does not show its account")
        organization = f" ({identity.organization})" if identity.organization else ""
        return ok(KEY, self.secrets.redact(f"valid for account {identity.id}{organization}"))

    def _revision(self) -> Finding:
        revision = API_REVISIONS[self.account.revision]
        last = _date(self.client.retirement_date) or revision.retires_on
        days = (last - self.now.date()).days
        is_deprecated = self.now.date() >= revision.deprecated_on
        deprecated = f"deprecated {'since' if is_deprecated else 'from'} {revision.deprecated_on}"
        found = f"{revision.name}; {deprecated}; {_retirement(last, days)}"
        if days > RETIREMENT_IS_NEAR_DAYS:
            return ok(REVISION, found)
        remedy = f"set KLAVIYO_REVISION={DEFAULT_REVISION}" if revision.name != DEFAULT_REVISION else UPGRADE
        return warning(REVISION, found, remedy) if days > 0 else failed(REVISION, found, remedy)

    def _zone(self, identity: KlaviyoAccount | None) -> Finding:
        ours = self.account.timezone
        if identity is None:
            return skipped(ZONE, "the key cannot read the account")
        if same_zone(identity.timezone, ours):
            alias = "" if identity.timezone == ours else f" (Klaviyo's name for it is {identity.timezone})"
            return ok(ZONE, f"{ours}, the same as the account's{alias}")
        return failed(
            ZONE,
            f"the sync windows use {ours}, but the account's time zone is {identity.timezone}",
            f"set KLAVIYO_TIMEZONE={identity.timezone} and, if windows were already synced, run `klaviyo-pipeline "
            "reset-windows`; reports are synced only in the account's time zone, because their days are in that zone",
        )

    def _metric(self, scope: Finding) -> Finding:
        if scope.verdict != "ok":
            return skipped(METRIC, "the metrics cannot be read")
        try:
            metric = find_conversion_metric(self.client, self.account.first_conversion_metric)
            names = {known.id: known.name or "" for known in self.client.metrics()}
        except KlaviyoError as error:
            return failed(METRIC, self.secrets.one_line(error))
        if absent := [one for one in self.account.conversion_metrics if one not in names]:
            return failed(
                METRIC,
                f"the account has no metric {', '.join(absent)}",
                "correct the id in KLAVIYO_CONVERSION_METRIC_ID or remove it; without any id, the default is used",
            )
        return self._metric_finding(metric, names.get(metric.id))

    def _metric_finding(self, metric: ConversionMetric, name: str | None) -> Finding:
        quoted_name = f' "{name}"' if name else ""
        found = self.secrets.redact(f"{metric.id}{quoted_name}, {metric.how}")
        refused = [_refused(one) for one in self.refusals if one.metric_id == metric.id and one.report in API_REPORTS]
        if refused and metric.counts:
            remedy = "to get these statistics, set KLAVIYO_CONVERSION_METRIC_ID to a metric that supports them"
            return warning(METRIC, f"{found}; {'; '.join(refused)}", remedy)
        if metric.counts:
            return ok(METRIC, found)
        return warning(
            METRIC, found, "set KLAVIYO_CONVERSION_METRIC_ID to the id of the metric that counts as a conversion"
        )


def _other_revision(name: str, today: date) -> str:
    """The remedy if this revision cannot be used: set a revision that Klaviyo still serves, or upgrade this package."""
    others = [one.name for one in API_REVISIONS.values() if one.name != name and today < one.retires_on]
    return f"set KLAVIYO_REVISION={others[-1]}, or {UPGRADE}" if others else UPGRADE


def _refused(refusal: Refusal) -> str:
    words = refused_words(API_REPORTS[refusal.report], refusal.metric_id, refusal.statistics)
    return f"{words}, last at {refusal.refused_at:%Y-%m-%d %H:%M} UTC"


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat((text or "")[:10])
    except ValueError:
        return None


def _retirement(last: date, days: int) -> str:
    if days <= 0:
        return f"it retired on {last} and is no longer served"
    return f"it retires on {last}, in {counted(days, 'day')}"
