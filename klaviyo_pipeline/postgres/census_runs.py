"""The table `census_runs`, and queries for the stored objects that a full listing of an entity did not contain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.postgres.ledger import ERROR_LENGTH
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.schema.system_tables import system_table


@dataclass(frozen=True)
class CensusRecord:
    """The censuses of one entity in one account's schema.

    `revision` is the revision of the API at which the entity is read; None if all revisions list it in the same way.
    """

    schema: str
    entity: str
    revision: str | None = None

    @property
    def _runs(self) -> sa.TableClause:
        return system_table(self.schema, "census_runs")

    def last_complete(self, connection: sa.Connection) -> datetime | None:
        """Return when the last complete census started.

        Returns None if there is no complete census, or if the last one was read at another revision.
        """
        runs = self._runs
        query = (
            sa.select(runs.c.started_at, runs.c.revision)
            .where(runs.c.entity == self.entity, runs.c.status == "complete")
            .order_by(runs.c.started_at.desc())
            .limit(1)
        )
        last = connection.execute(query).one_or_none()
        if last is None or self.revision not in (None, last.revision):
            return None
        moment: datetime = last.started_at
        return moment

    def unseen(self, connection: sa.Connection, seen: set[str], began: datetime) -> tuple[list[str], int]:
        """Return the ids of the rows that the census did not list, and the number of rows that were compared.

        Rows are compared if they are not deleted and were observed before the census began. Rows that were read at a
        later revision are left out, because this revision may be unable to return them.
        """
        rows = sa.table(
            self.entity,
            sa.column("id"),
            sa.column("deleted_at"),
            sa.column("observed_at"),
            schema=self.schema,
        )
        query = sa.select(rows.c.id).where(rows.c.deleted_at.is_(None), rows.c.observed_at < began).order_by(rows.c.id)
        if self.revision is not None:
            read_at = sa.column("revision", sa.Text)
            query = query.where(sa.or_(read_at.is_(None), read_at <= self.revision))
        known = connection.execution_options(yield_per=10_000).execute(query).scalars()
        total, missing = 0, []
        for id in known:
            total += 1
            if id not in seen:
                missing.append(id)
        return missing, total

    def earlier_messages(self, connection: sa.Connection, began: datetime) -> list[str]:
        """Return the ids of messages that were last read at an earlier revision and whose campaigns still exist.

        At the revision of the census, such a message may be a variation of an A/B test. Its absence from the listing of
        messages therefore does not prove that it was deleted.
        """
        names = ("id", "campaign_id", "deleted_at", "observed_at", "revision")
        messages = sa.table("campaign_messages", *(sa.column(name) for name in names), schema=self.schema)
        campaigns = sa.table(self.entity, sa.column("id"), sa.column("deleted_at"), schema=self.schema)
        query = (
            sa.select(messages.c.id)
            .join_from(messages, campaigns, campaigns.c.id == messages.c.campaign_id)
            .where(
                messages.c.deleted_at.is_(None),
                campaigns.c.deleted_at.is_(None),
                messages.c.observed_at < began,
                messages.c.revision < self.revision,
            )
            .order_by(messages.c.id)
        )
        return list(connection.execute(query).scalars())

    def complete(
        self,
        connection: sa.Connection,
        *,
        began: datetime,
        listed: int,
        row_counts: RowCounts,
        deleted: int,
        requests: int,
        run_id: str,
    ) -> None:
        """Record a complete census.

        Its listings were read to the end, and every stored object that they lacked was requested by id.
        """
        self._record(
            connection,
            started_at=began,
            status="complete",
            rows_listed=listed,
            rows_inserted=row_counts.inserted,
            rows_updated=row_counts.updated,
            rows_unchanged=max(0, listed - row_counts.inserted - row_counts.updated),
            rows_deleted=deleted,
            requests=requests,
            run_id=run_id,
            revision=self.revision,
        )

    def failed(self, connection: sa.Connection, *, began: datetime, run_id: str, error: str) -> None:
        """Record why a census failed."""
        self._record(connection, started_at=began, status="failed", run_id=run_id, error=error[:ERROR_LENGTH])

    def _record(self, connection: sa.Connection, **values: object) -> None:
        insert = pg.insert(self._runs).values(entity=self.entity, finished_at=sa.func.clock_timestamp(), **values)
        # A transaction is repeated if its commit was not confirmed. The row may then be there already.
        connection.execute(insert.on_conflict_do_nothing())
