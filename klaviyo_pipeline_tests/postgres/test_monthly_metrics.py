"""Sums by month and quarter: what `flow_metrics_between` makes of them is what the days alone would come to."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.merge import DaySpan
from klaviyo_pipeline.postgres.metrics import FLOW_METRICS, Metrics
from klaviyo_pipeline.postgres.migrations import migrate
from klaviyo_pipeline.settings import SQL_DIR
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, flow, frame, minute
from klaviyo_pipeline_tests.postgres.test_merge_concurrency import await_blocked

SUMS = (
    "recipients", "delivered", "opens", "opens_unique", "clicks", "clicks_unique", "conversions",
    "conversion_uniques", "conversion_value", "bounced", "bounced_or_failed", "failed", "unsubscribes",
    "unsubscribe_uniques", "spam_complaints", "message_segment_count_sum", "text_message_credit_usage_amount",
    "text_message_spend",
)  # fmt: skip
KEPT = ("flow_metrics_monthly", "flow_metrics_quarterly")
BEGIN = date(2023, 11, 1)
DAYS = 520
"""From November 2023 to April 2025: a leap year, and months that begin or end no quarter on either side."""

SPANS = [
    ("2024-01-01", "2024-12-31"),
    ("2023-11-01", "2025-04-03"),
    ("2024-02-01", "2024-02-29"),
    ("2024-02-02", "2024-03-30"),
    ("2024-01-31", "2024-02-01"),
    ("2023-12-31", "2025-01-01"),
    ("2024-05-05", "2024-05-05"),
    ("2024-12-01", "2024-11-30"),
    ("2024-03-31", "2024-01-01"),
    ("-infinity", "infinity"),
    ("2024-06-15", "infinity"),
    ("-infinity", "2024-06-14"),
    (None, "2024-06-14"),
    ("2024-06-14", None),
]


@pytest.fixture
def by_day(store: Store) -> Store:
    """A store with the function `by_day`: `flow_metrics_between` as it was when there were days alone.

    But for one thing: revenue is not known of a span where that of a day is not.
    """
    text = (SQL_DIR / "002_flow_report.sql").read_text()
    begin = text.index("CREATE FUNCTION flow_metrics_between")
    function = text[begin : text.index("COMMENT ON FUNCTION flow_metrics_between")]
    value = "sum(m.conversion_value)"
    function = function.replace(value, f"CASE WHEN count(m.conversion_value) = count(*) THEN {value} END")
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f'SET LOCAL search_path TO "{SLUG}"')
        connection.exec_driver_sql(function.replace("flow_metrics_between", "by_day"))
    return store


def row(luck: random.Random, flow_id: str, on: date, computed_at: float = 0) -> dict[str, Any]:
    """A day of a flow with counts that are missing, zero, whole, noisy or negative, each at its own scale."""
    kinds: list[Callable[[], Decimal | None]] = [
        lambda: None,
        lambda: Decimal(0),
        lambda: Decimal(luck.randrange(1_000)),
        lambda: Decimal(luck.randrange(10**12)).scaleb(-luck.randrange(14)),
        lambda: Decimal(-luck.randrange(10_000)) / 100,
    ]
    named = {"flow_name": luck.choice([None, "Welcome", "Zebra"]), "flow_status": "live", "trigger_type": None}
    counts = {name: luck.choice(kinds)() for name in SUMS}
    return {"flow_id": flow_id, "date": on, "messages": 1, "observed_at": minute(computed_at), **named, **counts}


def sync(store: Store, luck: random.Random, computed_at: float) -> None:
    """Replace a span of days as a run does: of the flows some have no figures any more, and some are new."""
    first = luck.randrange(DAYS)
    last = min(first + luck.randrange(59), DAYS - 1)
    days = [BEGIN + timedelta(days=number) for number in range(first, last + 1)]
    rows = [row(luck, id, day, computed_at) for id in "abcd" for day in days if luck.random() < 0.7]
    span = DaySpan("date", days[0], days[-1], minute(computed_at))
    store.merge("flow_metrics", frame(rows, list(row(luck, "a", BEGIN))), replaces=span)


def differing(store: Store, first: object, last: object) -> list[tuple[Any, ...]]:
    """Flows of the span whose figures, to the last digit, are not those of the days."""
    span = "(CAST(:first AS date), CAST(:last AS date))"
    compared = "SELECT {0}.flow_id, {0}::text FROM {0}{1}"
    ours, theirs = compared.format("flow_metrics_between", span), compared.format("by_day", span)
    query = f"(({ours}) EXCEPT ({theirs})) UNION ALL (({theirs}) EXCEPT ({ours}))"
    return store.rows(query, first=first, last=last)


def strays(store: Store) -> list[tuple[Any, ...]]:
    """Months whose days are not those of the table, either way."""
    return store.rows("""
        SELECT flow_id, month, days FROM flow_metrics_monthly
        FULL JOIN (
            SELECT flow_id, date_trunc('month', date::timestamp)::date AS month, count(*) AS days
            FROM flow_metrics GROUP BY 1, 2
        ) AS counted USING (flow_id, month, days)
        WHERE flow_metrics_monthly.flow_id IS NULL OR counted.flow_id IS NULL
    """)


@pytest.mark.parametrize("seed", range(3))
def test_a_span_is_what_its_days_come_to_whatever_was_synced_before(by_day: Store, seed: int) -> None:
    luck = random.Random(seed)
    for number in range(25):
        sync(by_day, luck, number)
        first, last = sorted(BEGIN + timedelta(days=luck.randrange(-40, DAYS + 40)) for _ in range(2))
        assert differing(by_day, first, last) == []
    assert [span for span in SPANS if differing(by_day, *span)] == []
    assert strays(by_day) == []
    assert by_day.value("SELECT count(*) FROM flow_metrics_between('-infinity', 'infinity')") == 4


@pytest.fixture
def filled(by_day: Store) -> Store:
    """Three flows with a row for each day from December 2023 to February 2025."""
    luck = random.Random(7)
    days = [date(2023, 12, 1) + timedelta(days=number) for number in range(456)]
    by_day.merge("flow_metrics", [row(luck, id, day) for id in "abc" for day in days])
    return by_day


CHANGES = {
    "an update of figures": "UPDATE flow_metrics SET delivered = delivered + 0.10 WHERE date = '2024-02-29'",
    "an update to null": "UPDATE flow_metrics SET opens = NULL WHERE date BETWEEN '2024-03-01' AND '2024-03-31'",
    "another month": "UPDATE flow_metrics SET date = date + 460 WHERE date < '2023-12-20'",
    "another flow": "UPDATE flow_metrics SET flow_id = 'd' WHERE flow_id = 'a' AND date > '2024-12-15'",
    "a delete of days": "DELETE FROM flow_metrics WHERE date BETWEEN '2024-02-10' AND '2024-03-10'",
    "a delete of a flow": "DELETE FROM flow_metrics WHERE flow_id = 'b'",
    "an insert": "INSERT INTO flow_metrics (flow_id, date, messages, opens, observed_at) "
    "VALUES ('a', '2023-11-30', 1, 5, now()), ('new', '2024-06-06', 1, 7.50, now())",
    "an upsert": "INSERT INTO flow_metrics (flow_id, date, messages, observed_at) "
    "SELECT 'a', day, 1, now() FROM generate_series(date '2025-02-20', '2025-03-10', '1 day') AS day "
    "ON CONFLICT (flow_id, date) DO UPDATE SET delivered = 1.000",
    "an emptied table": "TRUNCATE flow_metrics",
    "all of them emptied": "TRUNCATE flow_metrics, flow_metrics_monthly, flow_metrics_quarterly",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_anybody_is_in_the_sums_at_once(filled: Store, change: str) -> None:
    before = filled.value("SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM flow_metrics AS t")
    filled.run(CHANGES[change])
    assert filled.value("SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM flow_metrics AS t") != before
    assert [span for span in SPANS if differing(filled, *span)] == []
    assert strays(filled) == []


def test_whole_months_and_quarters_are_read_from_their_sums_and_the_edges_from_the_days(filled: Store) -> None:
    for table, value in (("monthly", 1_000), ("quarterly", 1_000_000)):
        filled.run(f"UPDATE flow_metrics_{table} SET recipients = {value}, days = 1 WHERE flow_id = 'a'")
    filled.run("ALTER TABLE flow_metrics DISABLE TRIGGER USER")
    filled.run("UPDATE flow_metrics SET recipients = 1 WHERE flow_id = 'a'")

    def recipients(first: str, last: str) -> tuple[Any, ...]:
        query = f"SELECT recipients, days FROM flow_metrics_between('{first}', '{last}') WHERE flow_id = 'a'"
        [found] = filled.rows(query)
        return found

    assert recipients("2024-03-01", "2024-03-31") == (1_000, 1)
    assert recipients("2024-02-29", "2024-04-01") == (1_002, 3)
    assert recipients("2024-03-01", "2024-03-30") == (30, 30)
    assert recipients("2024-01-01", "2024-12-31") == (4_000_000, 4)
    assert recipients("2023-12-01", "2025-01-31") == (4_002_000, 6)
    assert recipients("2023-12-30", "2025-02-02") == (4_001_004, 9)


def test_revenue_of_a_span_with_a_day_of_unknown_revenue_is_not_known_and_that_of_others_is(filled: Store) -> None:
    filled.run("UPDATE flow_metrics SET conversion_value = 2, conversions = 1, delivered = 4")
    filled.run("UPDATE flow_metrics SET conversion_value = NULL WHERE flow_id = 'a' AND date = '2024-05-10'")
    figures = "SELECT conversion_value, revenue_per_recipient, average_order_value, delivered "

    def between(first: str, last: str) -> tuple[Any, ...]:
        [found] = filled.rows(f"{figures} FROM flow_metrics_between('{first}', '{last}') WHERE flow_id = 'a'")
        return found

    assert between("2024-05-10", "2024-05-11") == (None, None, None, 8)
    assert between("2024-05-01", "2024-05-31") == (None, None, None, 124)
    assert between("2024-01-01", "2024-12-31") == (None, None, None, 4 * 366)
    assert between("2024-06-01", "2024-06-30") == (60, Decimal("0.5"), 2, 120)


def test_the_same_figures_again_write_no_sum(filled: Store) -> None:
    luck = random.Random(1)
    rows = [row(luck, id, date(2024, 5, number)) for id in "abc" for number in range(1, 31)]
    span = DaySpan("date", date(2024, 5, 1), date(2024, 5, 30), minute(1))
    filled.merge("flow_metrics", [{**one, "observed_at": minute(1)} for one in rows], replaces=span)
    before = filled.versions(*KEPT)
    filled.merge("flow_metrics", [{**one, "observed_at": minute(2)} for one in rows], replaces=span)
    assert filled.versions(*KEPT) == before


def test_a_changed_day_writes_the_sums_of_its_flow_and_month_alone(filled: Store) -> None:
    others = "SELECT ctid::text FROM flow_metrics_{} WHERE NOT (flow_id = 'a' AND {} = '2024-0{}-01') ORDER BY 1"
    queries = [others.format("monthly", "month", 5), others.format("quarterly", "quarter", 4)]
    before = [filled.values(query) for query in queries]
    filled.run("UPDATE flow_metrics SET opens = 1234567 WHERE flow_id = 'a' AND date = '2024-05-31'")
    assert [filled.values(query) for query in queries] == before
    assert differing(filled, "2024-05-01", "2024-05-31") == []


def test_a_flow_that_was_renamed_has_its_latest_name_over_any_span(filled: Store) -> None:
    filled.merge("flows", [flow("a", minute(0), "Adieu")])
    with filled.engine.begin() as connection:
        Metrics(SLUG, FLOW_METRICS).refresh_names(connection)
    names = "SELECT flow_name FROM flow_metrics_between('2024-01-01', '2024-12-31') WHERE flow_id = 'a'"
    assert filled.values(names) == ["Adieu"]
    assert differing(filled, "2023-12-30", "2025-02-02") == []


INSERT = "INSERT INTO flow_metrics (flow_id, date, messages, recipients, observed_at) VALUES ('x', :day, 1, 1, now())"


@pytest.fixture
def holder(by_day: Store) -> Iterator[sa.Connection]:
    """A connection whose transaction the test ends."""
    with by_day.engine.connect() as connection:
        connection.exec_driver_sql(f'SET LOCAL search_path TO "{SLUG}"')
        yield connection


def test_two_writers_of_one_month_take_turns_and_the_later_counts_both(by_day: Store, holder: sa.Connection) -> None:
    holder.execute(sa.text(INSERT), {"day": date(2024, 5, 1)})
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(by_day.run, INSERT, day=date(2024, 5, 2))
        await_blocked(by_day, writer)
        holder.commit()
        writer.result()
    assert by_day.rows("SELECT days, recipients FROM flow_metrics_monthly") == [(2, 2)]
    assert by_day.rows("SELECT days, recipients FROM flow_metrics_quarterly") == [(2, 2)]


def test_a_writer_that_cannot_see_anothers_days_fails_instead_of_losing_them(by_day: Store) -> None:
    by_day.run(INSERT, day=date(2024, 5, 1))
    zero = "UPDATE flow_metrics SET recipients = 0, flow_name = 'Other' WHERE date = '2024-05-01'"
    repeatable = by_day.engine.execution_options(isolation_level="REPEATABLE READ")
    with repeatable.connect() as late:
        late.exec_driver_sql(f'SET LOCAL search_path TO "{SLUG}"')
        late.exec_driver_sql("SELECT count(*) FROM flow_metrics")
        by_day.run(zero)
        with pytest.raises(sa.exc.OperationalError, match="could not serialize access"):
            late.execute(sa.text(INSERT), {"day": date(2024, 5, 2)})
    assert differing(by_day, "2024-01-01", "2024-12-31") == []


def test_what_rolls_back_leaves_no_sum(by_day: Store, holder: sa.Connection) -> None:
    holder.execute(sa.text(INSERT), {"day": date(2024, 5, 1)})
    holder.rollback()
    assert by_day.values("SELECT flow_id FROM flow_metrics_monthly") == []


def test_the_rows_of_flow_metrics_are_counted_by_the_days_of_the_quarters(filled: Store) -> None:
    count = "SELECT row_count FROM sync_status WHERE entity = 'flow_metrics'"
    assert filled.values(count) == [3 * 456]
    filled.run("TRUNCATE flow_metrics")
    assert filled.values(count) == [0]


def test_days_that_were_there_before_the_sums_are_added_up_by_the_migration(database: str, tmp_path: Path) -> None:
    for path in SQL_DIR.glob("*.sql"):
        if path.name < "009":
            shutil.copy(path, tmp_path)
    migrate(database, SLUG, tmp_path)
    engine = create_engine(database)
    earlier = Store(database, engine)
    luck = random.Random(3)
    days = [date(2024, 1, 20) + timedelta(days=number) for number in range(50)]
    earlier.merge("flow_metrics", [row(luck, id, day) | {"conversion_value": 1} for id in "ab" for day in days])
    span = "SELECT t::text FROM flow_metrics_between('2024-01-25', '2024-03-02') AS t ORDER BY flow_id"
    before = earlier.values(span)
    migrate(database, SLUG, SQL_DIR)
    assert earlier.values(span) == before
    assert earlier.values("SELECT days FROM flow_metrics_monthly WHERE month = '2024-02-01'") == [29, 29]
    assert strays(earlier) == []
    engine.dispose()


def test_a_schema_that_is_renamed_keeps_its_sums(filled: Store) -> None:
    with psycopg.connect(filled.dsn, autocommit=True) as connection:
        connection.execute(f'ALTER SCHEMA "{SLUG}" RENAME TO other')
        connection.execute("DELETE FROM other.flow_metrics WHERE date >= '2024-05-02'")
        [(days,)] = connection.execute(
            "SELECT days FROM other.flow_metrics_between('2024-01-01', '2024-12-31') WHERE flow_id = 'a'"
        )
    assert days == 31 + 29 + 31 + 30 + 1
