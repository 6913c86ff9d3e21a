"""Formats any error as one line.

This module imports every module that defines errors. To keep commands fast, import it only after an error.
"""

import psycopg
import sqlalchemy as sa

from klaviyo_pipeline.config.extras import MissingExtra
from klaviyo_pipeline.config.settings import SettingsError
from klaviyo_pipeline.klaviyo.errors import KlaviyoError
from klaviyo_pipeline.postgres.account_binding import AccountRefused
from klaviyo_pipeline.postgres.engine import DatabaseUnreachable, RightsMissing, reason
from klaviyo_pipeline.postgres.schema.cross_account_views import CrossAccountViewsRefused
from klaviyo_pipeline.postgres.schema.migrations import MigrationError
from klaviyo_pipeline.postgres.schema.tables import NotMigrated
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgresError
from klaviyo_pipeline.postgres.server.sessions import UnfitDatabase
from klaviyo_pipeline.postgres.write.repositories import UnknownFilter
from klaviyo_pipeline.reporting.text import printable

EXPECTED = (
    SettingsError,
    MissingExtra,
    KlaviyoError,
    AccountRefused,
    DatabaseUnreachable,
    UnfitDatabase,
    RightsMissing,
    NotMigrated,
    MigrationError,
    CrossAccountViewsRefused,
    EmbeddedPostgresError,
    UnknownFilter,
)


def clear_line(error: BaseException) -> str:
    """The message of an error, on one line.

    If the error is not in `EXPECTED`, the line begins with `Postgres:` for an error of the database driver, and names
    the type of any other error and `--debug`.
    """
    if isinstance(error, EXPECTED):
        text = reason(error) if isinstance(error, KlaviyoError) else str(error)
        return printable(" ".join(text.split()))
    text = printable(reason(error))
    if isinstance(error, psycopg.Error | sa.exc.DBAPIError):
        return f"Postgres: {text}"
    return f"Unexpected {type(error).__name__}: {text} (run again with --debug for the traceback)"
