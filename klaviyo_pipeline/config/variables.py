"""The environment variables as data: what each means, what it may be, and what holds where it is not set.

`settings.py` takes its defaults from here, and `docs/settings.md` is written from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from klaviyo_pipeline.config.api_revisions import DEFAULT_REVISION


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    `default` is what it is taken for where it is not set or empty, as one would write it; where it is empty itself,
    `otherwise` says what then holds.
    """

    name: str
    meaning: str
    allowed: str
    default: str = ""
    otherwise: str = ""


def _by_name(variables: Iterable[Variable]) -> dict[str, Variable]:
    return {variable.name: variable for variable in variables}


VARIABLES = _by_name(
    (
        Variable(
            "KLAVIYO_API_KEY",
            "Private API key. Read scopes are enough: accounts, campaigns, flows, forms, metrics, segments, tags.",
            "a private key, `pk_…`",
            otherwise="none: every command that asks Klaviyo says that it is missing; `demo` and `sandbox` need none",
        ),
        Variable(
            "KLAVIYO_TIMEZONE",
            "Zone that the sync windows are cut in. It has to be the account's own for the reports to be asked.",
            "an IANA name, such as `America/New_York`",
            default="UTC",
        ),
        Variable(
            "KLAVIYO_START_DATE",
            "First day to sync, in `KLAVIYO_TIMEZONE`. A census brings older objects besides.",
            "`YYYY-MM-DD`, from 2000 to today",
            default="2025-01-01",
        ),
        Variable(
            "KLAVIYO_DATABASE_URL",
            "The warehouse: Postgres 14 or newer.",
            "`postgresql://user:password@host:5432/database`, with %-escapes in the password",
            otherwise="the embedded server, with its data under `.klaviyo/` in the project",
        ),
        Variable(
            "KLAVIYO_DAGSTER_DATABASE_URL",
            "Where Dagster keeps its runs and events; never an account's schema.",
            "as `KLAVIYO_DATABASE_URL`",
            otherwise="beside the warehouse: a database `<name>_dagster` on its server, or a schema `dagster` in it",
        ),
        Variable(
            "KLAVIYO_ACCOUNT",
            "Schema of the tables, and prefix of the assets.",
            "up to 48 lower-case letters, digits and underscores, a letter first; not `public`, `dagster`, "
            "`information_schema`, `klaviyo_overview` or `pg_…`",
            default="klaviyo",
        ),
        Variable(
            "KLAVIYO_ACCOUNTS_FILE",
            "Where several accounts are described. Their fields stand there, and `KLAVIYO_ACCOUNT` chooses among them.",
            "a file, relative to the project",
            otherwise="`accounts.yaml`, if there is one; else the environment describes the one account",
        ),
        Variable(
            "KLAVIYO_SYNC_WINDOW",
            "Length of the entities' sync windows. Reports are by day in any case.",
            "`daily` or `hourly`",
            default="daily",
        ),
        Variable(
            "KLAVIYO_LOOKBACK_DAYS",
            "Trailing days that every sync and schedule asks again.",
            "0 to 3650",
            default="7",
        ),
        Variable(
            "KLAVIYO_ATTRIBUTION_DAYS",
            "How many days a report day may still change: the account's attribution window, which no call tells.",
            "0 to 365",
            default="5",
        ),
        Variable(
            "KLAVIYO_RETENTION_DAYS",
            "How many days of old logs and finished bookkeeping `prune` keeps.",
            "1 to 36500",
            default="90",
        ),
        Variable(
            "KLAVIYO_CONVERSION_METRIC_ID",
            "The metric that counts as a conversion in the reports of flows and campaigns.",
            "a metric's id",
            otherwise='the metric that the account maps to revenue, else the one named "Placed Order"',
        ),
        Variable(
            "KLAVIYO_RATE_SCALE",
            "Multiplies the published rates of the pacing; 0.5 leaves half of them to other tools.",
            "0 or more; `0` switches pacing off (429s are obeyed all the same)",
            default="1",
        ),
        Variable(
            "KLAVIYO_OWNERS",
            "Who answers for the assets, as the UI shows it.",
            "addresses and teams, as `jo@example.com, team:data`",
            otherwise="nobody",
        ),
        Variable(
            "KLAVIYO_ALERT_WEBHOOK_URL",
            'Where the sensors post what they tell, as `{"text": …}`, which Slack and others take.',
            "an http or https address",
            otherwise="the daemon's log alone",
        ),
        Variable(
            "KLAVIYO_API_URL",
            "Base URL of the API, without `/api`.",
            "https; plain http for the loopback interface alone",
            default="https://a.klaviyo.com",
        ),
        Variable(
            "KLAVIYO_REVISION",
            "Revision of the API. Klaviyo serves each for two years.",
            "`2026-10-15` or `2026-07-15`",
            default=DEFAULT_REVISION,
        ),
    )
)
"""Every variable that people set, by name."""
