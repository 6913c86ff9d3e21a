"""The first of a report's conversion metrics, from whose rows the metrics tables are computed.

The ledger has the windows of the first metric under the report's name, and the windows of each further metric under a
name that contains the metric's id (see `of_metric`). To make another metric the first, windows are renamed: nothing
that Postgres has stored is requested again.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from klaviyo_pipeline.catalog import EXACT_METRICS, METRICS
from klaviyo_pipeline.postgres.exact_answers import forget_answers
from klaviyo_pipeline.postgres.ledger import of_metric
from klaviyo_pipeline.postgres.schema.system_tables import system_table


def make_first(connection: sa.Connection, schema: str, report: str, metric_id: str, *, if_known: bool = False) -> bool:
    """Make this metric the first of the report, and return whether windows were renamed.

    With `if_known`, nothing happens unless the ledger has synced windows of this metric as a further one.

    The windows of the previous first metric are kept as windows of a further metric. For every renamed window, the
    ledger's row of the metrics table is deleted, so that the next run computes the metrics from the rows of the new
    first metric. Exact answers for other metrics are deleted.
    """
    ledger = system_table(schema, "sync_windows")
    others = sa.and_(ledger.c.entity == report, ledger.c.conversion_metric_id != metric_id)
    own = ledger.c.entity == of_metric(report, metric_id)
    query = sa.select(ledger.c.entity, ledger.c.window_start, ledger.c.status).where(sa.or_(others, own))
    rows = connection.execute(query).all()
    is_known = any(row.entity != report and row.status == "synced" for row in rows)
    if not rows or (if_known and not is_known):
        return False
    changed = {row.window_start for row in rows}
    _rename(connection, ledger, others, sa.func.concat(report, ":", ledger.c.conversion_metric_id))
    _rename(connection, ledger, own, sa.literal(report))
    computed = [name for name, table in METRICS.items() if table.report == report]
    connection.execute(sa.delete(ledger).where(ledger.c.entity.in_(computed), ledger.c.window_start.in_(changed)))
    for exact in EXACT_METRICS.values():
        if exact.report.name == report:
            forget_answers(connection, schema, exact, metric_id)
    return True


def _rename(
    connection: sa.Connection, ledger: sa.TableClause, condition: sa.ColumnElement[bool], name: sa.ColumnElement[str]
) -> None:
    """Give these windows another name in the ledger.

    If a window already has a row with that name, the row of the later request stays.
    """
    columns = [column.name for column in ledger.columns]
    moved = (
        sa.delete(ledger)
        .where(condition)
        .returning(*(name.label("entity") if one == "entity" else ledger.c[one] for one in columns))
        .cte("moved")
    )
    insert = pg.insert(ledger).from_select(columns, sa.select(*(moved.c[one] for one in columns)))
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["entity", "window_start"],
            set_={one: insert.excluded[one] for one in columns if one not in ("entity", "window_start")},
            where=sa.or_(ledger.c.asked_at.is_(None), ledger.c.asked_at < insert.excluded.asked_at),
        )
    )
