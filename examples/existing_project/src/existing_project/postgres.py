"""The project's own access to its warehouse."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psycopg


class Postgres(dg.ConfigurableResource):
    """Connections to the warehouse."""

    url: str

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url) as connection:
            yield connection
