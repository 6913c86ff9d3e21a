"""What Klaviyo says of the key: whose it is, what it may read, how long the revision lives, what converts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.config.time_zones import same_zone
from klaviyo_pipeline.diagnosis.findings import Finding, Secrets, failed, ok, skipped, warning
from klaviyo_pipeline.diagnosis.scopes import scope_checks, scope_findings
from klaviyo_pipeline.klaviyo.account import KlaviyoAccount as KlaviyoAccount
from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.conversion import ConversionMetric, find_conversion_metric
from klaviyo_pipeline.klaviyo.errors import BadRequest, Forbidden, KlaviyoError, RevisionRetired
from klaviyo_pipeline.klaviyo.pacing import LocalPacer
from klaviyo_pipeline.klaviyo.refused_statistics import refused_words
from klaviyo_pipeline.klaviyo.reports import API_REPORTS
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.postgres.refusals import Refusal

KEY, REVISION, ZONE, METRIC = "API key", "API revision", "time zone", "conversion metric"
RETIREMENT_IS_NEAR_DAYS = 90

IMPATIENT = RetryPolicy(ceilings=(1.0,), longest_retry_after=10.0)
"""Somebody waits for the answer: trouble is told rather than waited out."""


@dataclass(frozen=True)
class AccountReport:
    """The findings, and the account of the key where Klaviyo told it."""

    findings: list[Finding]
    identity: KlaviyoAccount | None = None


def not_requested(because: str, *known: Finding) -> AccountReport:
    """The known findings in their places, and every other check of this module as skipped."""
    by_check = {finding.check: finding for finding in known}
    checks = (KEY, REVISION, *scope_checks(), ZONE, METRIC)
    return AccountReport([by_check.get(check) or skipped(check, because) for check in checks])


def check_account_access(
    account: Account, key: str, secrets: Secrets, now: datetime, refusals: Sequence[Refusal] = ()
) -> AccountReport:
    """Ask with the key what it may, and for whom. `now` is aware; `refusals` are what it did not give a report."""
    try:
        with _client(account, key) as client:
            return _AccessCheck(account, client, secrets, now, refusals).reported()
    except (RevisionRetired, BadRequest) as error:
        remedy = f"set KLAVIYO_REVISION to one that Klaviyo serves, such as {Account.revision}"
        return not_requested(f"the {REVISION} comes first", failed(REVISION, secrets.reported(error), remedy))
    except KlaviyoError as error:
        return not_requested(f"the {KEY} comes first", failed(KEY, secrets.reported(error)))


@contextmanager
def _client(account: Account, key: str) -> Iterator[KlaviyoClient]:
    # Not the shared pacer: it keeps its slots in the warehouse, where nothing is to be written.
    pacer = LocalPacer(scale=account.rate_scale)
    with KlaviyoClient(
        api_key=key, base_url=account.api_url, revision=account.revision, pacer=pacer, retry=IMPATIENT
    ) as client:
        yield client


@dataclass(frozen=True)
class _AccessCheck:
    account: Account
    client: KlaviyoClient
    secrets: Secrets
    now: datetime
    refusals: Sequence[Refusal]

    def reported(self) -> AccountReport:
        """Raises what makes every further question idle: a key or a revision that is refused."""
        identity: KlaviyoAccount | None = None
        refused: Forbidden | None = None
        try:
            identity = self.client.account()
        except Forbidden as error:
            refused = error
        scopes = scope_findings(self.client, refused, self.secrets, self.now)
        metric = self._metric(scopes[-1])
        return AccountReport([self._key(identity), self._revision(), *scopes, self._zone(identity), metric], identity)

    def _key(self, identity: KlaviyoAccount | None) -> Finding:
        if identity is None:
            return ok(KEY, "Klaviyo knows it, and does not tell it whose it is")
        organization = f" ({identity.organization})" if identity.organization else ""
        return ok(KEY, self.secrets.redact(f"of account {identity.id}{organization}"))

    def _revision(self) -> Finding:
        reported = self.client.retirement_date
        if reported is None:
            return ok(REVISION, f"{self.account.revision}; Klaviyo tells no date of retirement")
        try:
            last = date.fromisoformat(reported[:10])
        except ValueError:
            return ok(REVISION, self.secrets.redact(f"{self.account.revision}; it retires {reported}"))
        days = (last - self.now.date()).days
        found = f"{self.account.revision}; it retires on {last}, {_in_days(days)}"
        if days > RETIREMENT_IS_NEAR_DAYS:
            return ok(REVISION, found)
        remedy = "read Klaviyo's change log, then set a newer KLAVIYO_REVISION"
        return warning(REVISION, found, remedy) if days > 0 else failed(REVISION, found, remedy)

    def _zone(self, identity: KlaviyoAccount | None) -> Finding:
        ours = self.account.timezone
        if identity is None:
            return skipped(ZONE, "the key may not read the account")
        if same_zone(identity.timezone, ours):
            old_name = "" if identity.timezone == ours else f", which Klaviyo calls {identity.timezone}"
            return ok(ZONE, f"{ours}, as the account's own{old_name}")
        return failed(
            ZONE,
            f"the windows are cut in {ours}, and the account's own zone is {identity.timezone}",
            f"set KLAVIYO_TIMEZONE={identity.timezone}: report days are days of the account, and in another zone "
            "reports are not asked",
        )

    def _metric(self, scope: Finding) -> Finding:
        if scope.verdict != "ok":
            return skipped(METRIC, "the metrics cannot be read")
        try:
            metric = find_conversion_metric(self.client, self.account.conversion_metric_id)
            name = next((known.name or "" for known in self.client.metrics() if known.id == metric.id), None)
        except KlaviyoError as error:
            return failed(METRIC, self.secrets.reported(error))
        return self._judged(metric, name)

    def _judged(self, metric: ConversionMetric, name: str | None) -> Finding:
        if name is None and self.account.conversion_metric_id:
            return failed(
                METRIC,
                f"the account has no metric {metric.id}",
                "set KLAVIYO_CONVERSION_METRIC_ID to the id of one of its metrics, or leave it unset to have one found",
            )
        known = f' "{name}"' if name else ""
        found = self.secrets.redact(f"{metric.id}{known}, {metric.how}")
        refused = [_refused(one) for one in self.refusals if one.metric_id == metric.id and one.report in API_REPORTS]
        if refused and metric.counts:
            remedy = "set KLAVIYO_CONVERSION_METRIC_ID to a metric that Klaviyo gives them for, or do without them"
            return warning(METRIC, f"{found}; {'; '.join(refused)}", remedy)
        if metric.counts:
            return ok(METRIC, found)
        return warning(METRIC, found, "set KLAVIYO_CONVERSION_METRIC_ID to the id of the metric that counts as one")


def _refused(refusal: Refusal) -> str:
    words = refused_words(API_REPORTS[refusal.report], refusal.metric_id, refusal.statistics)
    return f"{words}, as asked at {refusal.refused_at:%Y-%m-%d %H:%M} UTC"


def _in_days(days: int) -> str:
    return f"in {days} days" if days > 0 else "so it is no longer served"
