"""The writer: a load batch by batch, each with its ledger rows, each whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
import pytest
import sqlalchemy as sa

from klaviyo_pipeline.postgres.ledger import Ledger, SyncedWindow
from klaviyo_pipeline.postgres.row_counts import RowCounts
from klaviyo_pipeline.postgres.write.loads import Batch, CompletedWindow, Load
from klaviyo_pipeline.postgres.write.writer import Writer
from klaviyo_pipeline_tests.postgres.store import SLUG, Store, flow, frame, minute, window

WINDOWS = [window(number) for number in range(3)]
COUNTS = ("status", "rows_fetched", "rows_inserted", "rows_updated", "rows_unchanged", "requests")


def batch(*ids: tuple[str, int], completes: Sequence[int] = (), requests: int = 0, at: int = 1) -> Batch:
    """Flows, each for a window by number; the windows that are complete with them."""
    rows = [flow(id, minute(at), _window=number) for id, number in ids]
    done = [
        CompletedWindow(WINDOWS[number], minute(at), requests if number == completes[0] else 0) for number in completes
    ]
    return Batch(frame(rows, None if rows else ["id", "raw", "observed_at", "_window"]), done)


def broken(*completes: int) -> Batch:
    """A batch whose second row the table refuses."""
    rows = [flow("good", minute(1), _window=0), flow("bad", minute(1), raw=None, _window=0)]
    return Batch(frame(rows), [CompletedWindow(WINDOWS[number], minute(1), 1) for number in completes])


def writer_of(store: Store, *batches: Batch, reported: list[SyncedWindow] | None = None) -> Writer:
    load = Load(batches, WINDOWS, on_synced=(reported if reported is not None else []).append)
    return Writer(store.engine, store.target("flows"), Ledger(SLUG, "flows"), load, "run 7")


def test_counts_add_up_by_window_over_all_batches(store: Store) -> None:
    store.merge("flows", [flow("known", minute(0)), flow("changed", minute(0), "Before")])
    writer = writer_of(
        store,
        batch(("known", 0), ("a", 1)),
        batch(("changed", 0), ("b", 1), ("c", 2)),
        batch(("d", 1), completes=[0, 1, 2], requests=4),
    )
    writer.run()
    assert store.ledger("flows", *COUNTS) == [
        ("synced", 2, 0, 1, 1, 4),
        ("synced", 3, 3, 0, 0, 0),
        ("synced", 1, 1, 0, 0, 0),
    ]
    assert (writer.rows_fetched, writer.total) == (6, RowCounts(inserted=4, updated=1))
    assert writer.open_windows == []


def test_only_the_commits_that_complete_a_window_wait_for_the_disk(store: Store) -> None:
    store.run(
        """
        CREATE TABLE noted (id text, waits text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO "order".noted VALUES (NEW.id, current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT ON flows FOR EACH ROW EXECUTE FUNCTION note();
        """
    )
    store.run(f'ALTER DATABASE "{store.engine.url.database}" SET synchronous_commit TO on')
    store.engine.dispose()
    writer_of(store, batch(("a", 0)), batch(("b", 0), completes=[0]), batch(("c", 1)), batch(completes=[1, 2])).run()
    Writer(store.engine, store.target("flows"), Ledger(SLUG, "flows"), Load([batch(("d", 0))]), "run 8").run()
    assert store.rows("SELECT id, waits FROM noted ORDER BY id") == [
        ("a", "off"),
        ("b", "on"),
        ("c", "off"),
        ("d", "on"),
    ]


def test_a_window_is_reported_once_it_is_committed(store: Store) -> None:
    seen: list[tuple[str, int]] = []

    def look(one: SyncedWindow) -> None:
        seen.append((one.window.key, len(store.ledger("flows", "status"))))

    load = Load([batch(("a", 0), completes=[0]), batch(completes=[1, 2])], WINDOWS, on_synced=look)
    Writer(store.engine, store.target("flows"), Ledger(SLUG, "flows"), load, "run").run()
    assert seen == [(WINDOWS[0].key, 1), (WINDOWS[1].key, 3), (WINDOWS[2].key, 3)]


def test_rows_of_a_finished_batch_stay_when_a_later_one_fails(store: Store) -> None:
    reported: list[SyncedWindow] = []
    writer = writer_of(store, batch(("a", 0), completes=[0]), batch(("b", 1)), broken(1, 2), reported=reported)
    with pytest.raises(sa.exc.IntegrityError):
        writer.run()
    assert store.values("SELECT id FROM flows ORDER BY 1") == ["a", "b"]
    assert store.ledger("flows", "status") == [("synced",)]
    assert [one.window for one in reported] == [WINDOWS[0]]
    assert writer.open_windows == WINDOWS[1:]


def test_a_batch_that_fails_leaves_neither_rows_nor_history_nor_ledger(store: Store) -> None:
    writer = writer_of(store, broken(0))
    with pytest.raises(sa.exc.IntegrityError):
        writer.run()
    for table in ("flows", "flows_superseded", "sync_windows"):
        assert store.value(f"SELECT count(*) FROM {table}") == 0


def test_rows_do_not_stay_without_their_ledger_row(store: Store) -> None:
    store.run("ALTER TABLE sync_windows ADD CHECK (rows_fetched < 2)")
    with pytest.raises(sa.exc.IntegrityError):
        writer_of(store, batch(("a", 0), ("b", 0), completes=[0])).run()
    assert store.value("SELECT count(*) FROM flows") == 0


def test_a_failure_is_noted_for_the_windows_that_are_still_open(store: Store) -> None:
    writer = writer_of(store, batch(("a", 0), completes=[0]), broken(1, 2))
    with pytest.raises(sa.exc.IntegrityError):
        writer.run()
    writer.record_failure("the batch was refused")
    assert store.ledger("flows", "status", "error", "run_id") == [
        ("synced", None, "run 7"),
        ("failed", "the batch was refused", "run 7"),
        ("failed", "the batch was refused", "run 7"),
    ]


def test_batches_are_made_while_they_are_written(store: Store) -> None:
    """A page is in the table before the next one is asked for, so memory does not grow with the range."""
    before: list[int] = []

    def pages() -> Iterator[Batch]:
        for number in range(3):
            before.append(store.value("SELECT count(*) FROM flows"))
            yield batch((f"f{number}", number))

    load = Load(pages(), WINDOWS)
    Writer(store.engine, store.target("flows"), Ledger(SLUG, "flows"), load, "run").run()
    assert before == [0, 1, 2]


def test_the_end_is_reported_with_what_changed(store: Store) -> None:
    ends: list[tuple[RowCounts, int]] = []
    store.merge("flows", [flow("a", minute(0))])
    load = Load([batch(("a", 0), ("b", 0))], on_written=lambda row_counts, rows: ends.append((row_counts, rows)))
    Writer(store.engine, store.target("flows"), Ledger(SLUG, "flows"), load, "run").run()
    assert ends == [(RowCounts(inserted=1), 2)]
    assert store.ledger("flows", "status") == []


def test_a_batch_whose_connection_was_cut_is_written_again(store: Store) -> None:
    """A server that restarts cuts every connection; what the batch had done is gone, and is done again."""
    cut = 0

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def end_the_backend(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        nonlocal cut
        if "sync_windows" in statement and cut == 0:
            cut += 1
            [pid] = connection.connection.driver_connection.execute("SELECT pg_backend_pid()").fetchone()  # type: ignore[union-attr]
            with psycopg.connect(store.dsn, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    writer_of(store, batch(("a", 0), completes=[0])).run()
    assert cut == 1
    assert store.ledger("flows", *COUNTS)[0] == ("synced", 1, 1, 0, 0, 0)
    assert store.values("SELECT id FROM flows") == ["a"]
