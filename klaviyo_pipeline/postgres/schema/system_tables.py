"""The system tables of an account's schema, with the columns that the migrations declare."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from klaviyo_pipeline.postgres.schema.declarations import declared_tables

SystemTable = Literal[
    "account",
    "api_calls",
    "api_pacing",
    "assets",
    "campaign_metrics_exact",
    "census_runs",
    "conversion_refusals",
    "exact_answers",
    "flow_metrics_exact",
    "form_metrics_exact",
    "lookup_misses",
    "sync_windows",
]


def system_table(schema: str, name: SystemTable) -> sa.TableClause:
    """This table of the account's schema. Its columns have no SQLAlchemy type: psycopg converts the values."""
    return sa.table(name, *(sa.column(column) for column in declared_tables()[name].columns), schema=schema)
