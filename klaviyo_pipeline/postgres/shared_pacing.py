"""Request slots in Postgres, which all processes of an account share.

The table has one row per endpoint. One statement appends the next free slot by the server's clock and returns how long
to wait. Its row lock serves processes first come, first served; a process that dies wastes one slot. The time of a slot
is also the observation time of the request that uses it, so that all runs and machines have one clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from klaviyo_pipeline.klaviyo.pacing import LONGEST_WAIT, Slot, padded_windows, quota_spent
from klaviyo_pipeline.klaviyo.rates import Endpoint
from klaviyo_pipeline.postgres.engine import in_statements
from klaviyo_pipeline.postgres.schema.system_tables import system_table

_ENSURE = "INSERT INTO {table} (endpoint) VALUES (:endpoint) ON CONFLICT DO NOTHING"

# The slot is the earliest moment that is not in the past, not before the end of a block, at least 1 µs after the last
# slot, and as long after the n-th last slot as each rate of n requests demands. No slot is reserved if the wait
# would be longer than `:longest`.
# The commit does not wait for the disk: a crashed server loses less than the last second of slots.
_RESERVE = """
WITH free AS (
    SELECT
        endpoint,
        now.moment AS now,
        coalesce(blocked_until, now.moment) AS blocked_until,
        greatest(
            now.moment,
            blocked_until,
            slots[cardinality(slots)] + interval '1 microsecond',
            (
                SELECT max(slots[cardinality(slots) - rate.requests + 1] + rate.seconds * interval '1 second')
                FROM unnest(CAST(:requests AS int[]), CAST(:seconds AS float8[])) AS rate (requests, seconds)
            )
        ) AS slot
    FROM {table}, (SELECT {clock} AS moment) AS now
    WHERE endpoint = :endpoint AND set_config('synchronous_commit', 'off', true) = 'off'
    FOR UPDATE OF api_pacing
)
UPDATE {table} AS api_pacing
SET slots = CASE
    WHEN free.slot - free.now > CAST(:longest AS interval) THEN slots
    ELSE (slots || free.slot)[greatest(1, cardinality(slots) + 2 - :keep):]
END
FROM free
WHERE api_pacing.endpoint = free.endpoint
RETURNING free.slot, extract(epoch FROM free.slot - free.now), extract(epoch FROM free.blocked_until - free.now)
"""

_BLOCK = """
UPDATE {table}
SET blocked_until = greatest(blocked_until, {clock} + CAST(:pause AS interval))
WHERE endpoint = :endpoint
"""


_NOW = "SELECT {clock}"

SERVER_CLOCK = "clock_timestamp()"


class PostgresPacer:
    """The pacing of one account, for all processes that use the account's schema.

    `scale` multiplies the published rates; 0 switches them off, but a 429 still blocks. `clock` is the SQL expression
    of the current time, which tests replace.
    """

    def __init__(
        self,
        engine: sa.Engine,
        schema: str,
        *,
        scale: float = 1.0,
        longest_wait: float = LONGEST_WAIT,
        clock: str = SERVER_CLOCK,
    ) -> None:
        self._engine = engine
        self._scale = scale
        self._longest = timedelta(seconds=longest_wait)
        table = system_table(schema, "api_pacing")
        quoted = engine.dialect.identifier_preparer.format_table(table)
        self._ensure, self._reserve, self._block, self._now = (
            sa.text(statement.format(table=quoted, clock=clock)) for statement in (_ENSURE, _RESERVE, _BLOCK, _NOW)
        )
        self._ensured: set[str] = set()

    def reserve(self, endpoint: Endpoint) -> Slot:
        """Reserve the next free slot of this endpoint. Raises `QuotaSpent` if it is beyond the longest wait."""
        windows = padded_windows(endpoint, self._scale)
        parameters = {
            "endpoint": endpoint.name,
            "requests": [requests for requests, _ in windows],
            "seconds": [seconds for _, seconds in windows],
            "longest": self._longest,
            # Slots are kept even with the rates off, so that the day's count is complete when they are on again.
            "keep": max(requests for requests, _ in padded_windows(endpoint, self._scale or 1.0)),
        }

        def take(connection: sa.Connection) -> tuple[datetime, float, float]:
            if endpoint.name not in self._ensured:
                connection.execute(self._ensure, {"endpoint": endpoint.name})
            at, wait, blocked = connection.execute(self._reserve, parameters).one()
            return at, float(wait), float(blocked)

        at, wait, blocked = in_statements(self._engine, take)
        # Added only after the commit: otherwise another thread could skip the insert while it cannot see the row yet.
        self._ensured.add(endpoint.name)
        if wait > self._longest.total_seconds():
            raise quota_spent(endpoint, at)
        return Slot(wait=max(0.0, wait), at=at, blocked=max(0.0, blocked))

    def block(self, endpoint: Endpoint, seconds: float) -> None:
        """See `Pacer.block`. A shorter block never ends a longer one."""

        def hold(connection: sa.Connection) -> None:
            connection.execute(self._ensure, {"endpoint": endpoint.name})
            connection.execute(self._block, {"endpoint": endpoint.name, "pause": timedelta(seconds=seconds)})

        in_statements(self._engine, hold)

    def now(self) -> datetime:
        """The current time by the database's clock."""

        def read(connection: sa.Connection) -> datetime:
            moment: datetime = connection.execute(self._now).scalar_one()
            return moment

        return in_statements(self._engine, read)
