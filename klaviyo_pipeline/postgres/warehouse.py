"""The warehouse as a Dagster resource."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import dagster as dg
import sqlalchemy as sa

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.postgres.engine import clear_errors, shared_engine, warehouse_url


class Warehouse(dg.ConfigurableResource[None]):
    """The Postgres that holds the tables: a URL from the environment, or else the embedded server.

    `own_variables` names, by slug, the variable of an account that reaches Postgres by a URL of its own: as another
    role, or on another server.
    """

    database_url_variable: str = Account.database_url_variable
    own_variables: dict[str, str] = {}  # noqa: RUF012 - a pydantic field, copied for each instance

    @classmethod
    def of(cls, accounts: Sequence[Account]) -> Self:
        """The warehouse of these accounts."""
        default = Account.database_url_variable
        own = {one.slug: one.database_url_variable for one in accounts if one.database_url_variable != default}
        return cls(own_variables=own)

    def url(self, slug: str) -> str:
        """The libpq URL for this account; starts the embedded server where none is set."""
        return warehouse_url(os.environ.get(self.own_variables.get(slug, self.database_url_variable)))

    @contextmanager
    def engine(self, slug: str) -> Iterator[sa.Engine]:
        """An engine on this account's schema, shared with whoever else in the process asks at the same time."""
        url = self.url(slug)
        with shared_engine(url) as engine, clear_errors(url):
            yield engine
