"""The environment variables as data, each with its meaning, its allowed values and its default.

`settings.py` takes the defaults from here, and `docs/settings.md` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from klaviyo_pipeline.config.api_revisions import DEFAULT_REVISION


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    `default` is the value that applies if the variable is unset or empty. If there is no default, `otherwise` describes
    what applies instead.
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
            "Private API key. It needs the read scopes accounts, campaigns, flows, forms, metrics, segments and tags. "
            "If KLAVIYO_ASSETS switches on lists and templates, it needs their scopes too.",
            "a private key, `pk_…`",
            otherwise="none: commands that send requests to Klaviyo fail; `demo` and `sandbox` need no key",
        ),
        Variable(
            "KLAVIYO_TIMEZONE",
            "Time zone of the sync windows. Reports are synced only if it is the account's own time zone.",
            "an IANA name, such as `America/New_York`",
            default="UTC",
        ),
        Variable(
            "KLAVIYO_START_DATE",
            "First day to sync, in `KLAVIYO_TIMEZONE`. A census also reads objects that last changed before this day.",
            "`YYYY-MM-DD`, from 2000 to today",
            default="2025-01-01",
        ),
        Variable(
            "KLAVIYO_DATABASE_URL",
            "The database for the data: Postgres 14 or newer.",
            "`postgresql://user:password@host:5432/database`, with special characters in the password %-escaped",
            otherwise="the embedded server, which stores its data in `KLAVIYO_STATE_DIR`",
        ),
        Variable(
            "KLAVIYO_DAGSTER_DATABASE_URL",
            "The database for Dagster's runs and events. They are never stored in an account's schema.",
            "as `KLAVIYO_DATABASE_URL`",
            otherwise="a database `<name>_dagster` on the same server, or a schema `dagster` in the same database",
        ),
        Variable(
            "KLAVIYO_STATE_DIR",
            "The folder for the embedded server, Dagster's files and the reports.",
            "a path, relative to the project",
            otherwise="`.klaviyo` in the project; for an installed package, in the working folder",
        ),
        Variable(
            "KLAVIYO_ACCOUNT",
            "Schema of the tables, and prefix of the asset keys.",
            "up to 48 lower-case letters, digits and underscores, starting with a letter; not `public`, `dagster`, "
            "`information_schema`, `klaviyo_overview` or `pg_…`",
            default="klaviyo",
        ),
        Variable(
            "KLAVIYO_ACCOUNTS_FILE",
            "The file with the settings of several accounts. `KLAVIYO_ACCOUNT` then selects accounts from the file.",
            "a path, relative to the project",
            otherwise="`accounts.yaml`; if it does not exist, the environment describes the only account",
        ),
        Variable(
            "KLAVIYO_SYNC_WINDOW",
            "Length of the sync windows of entities. The windows of reports are days, weeks or months.",
            "`daily` or `hourly`",
            default="daily",
        ),
        Variable(
            "KLAVIYO_LOOKBACK_DAYS",
            "Number of trailing days that every sync and every schedule requests again.",
            "0 to 3650",
            default="7",
        ),
        Variable(
            "KLAVIYO_ATTRIBUTION_DAYS",
            "Number of days in which the values of a day can still change: the account's attribution window. The API "
            "does not return this number.",
            "0 to 365",
            default="5",
        ),
        Variable(
            "KLAVIYO_RETENTION_DAYS",
            "How many days `prune` keeps the logs of finished runs, and operational records.",
            "1 to 36500",
            default="90",
        ),
        Variable(
            "KLAVIYO_CONVERSION_METRIC_ID",
            "The metric that counts as a conversion in the reports of flows and campaigns. If you set several, each "
            "report is requested once for each metric. The metrics tables, such as `flow_metrics`, are computed for "
            "the first.",
            "a metric's id, or several separated by commas",
            otherwise='the metric that the account maps to revenue, otherwise the one named "Placed Order"',
        ),
        Variable(
            "KLAVIYO_ASSETS",
            "The assets that the account has. `default` stands for all assets that are on by default. The name of an "
            "entity also switches on its census.",
            "asset names separated by commas, such as `default, lists`; `klaviyo-pipeline sync --help` lists them",
            default="default",
        ),
        Variable(
            "KLAVIYO_TEMPLATE_HTML",
            "Whether `raw` of templates contains their HTML and text. If you change this, every template gets a new "
            "state when it is read next.",
            "`yes` or `no`",
            default="no",
        ),
        Variable(
            "KLAVIYO_RATE_SCALE",
            "Multiplies Klaviyo's published rate limits. `0.5` leaves half of each limit to other tools.",
            "0 or more; `0` switches pacing off, but a 429 is still obeyed",
            default="1",
        ),
        Variable(
            "KLAVIYO_OWNERS",
            "The owners of the assets in the UI.",
            "email addresses and teams, such as `jo@example.com, team:data`",
            otherwise="no owners",
        ),
        Variable(
            "KLAVIYO_ALERT_WEBHOOK_URL",
            'The webhook to which the sensors post alerts as `{"text": …}`, the format of Slack and other tools.',
            "an http or https URL",
            otherwise="alerts appear only in the daemon's log",
        ),
        Variable(
            "KLAVIYO_API_URL",
            "Base URL of the API, without `/api`.",
            "an https URL; plain http is allowed only for loopback addresses",
            default="https://a.klaviyo.com",
        ),
        Variable(
            "KLAVIYO_REVISION",
            "Revision of the API. Klaviyo serves each revision for two years.",
            "`2026-10-15` or `2026-07-15`",
            default=DEFAULT_REVISION,
        ),
    )
)
"""The environment variables, by name."""
