"""The catalog: everything is described, and the queries that people run have their index."""

from __future__ import annotations

import pytest

from klaviyo_pipeline_tests.postgres.store import SLUG, Store

RELATIONS = f"""
SELECT c.oid, c.relname FROM pg_class c
WHERE c.relnamespace = '"{SLUG}"'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
    AND c.relname <> 'schema_migrations'
"""


def test_every_table_and_view_has_a_comment(store: Store) -> None:
    silent = f"SELECT relname FROM ({RELATIONS}) r WHERE coalesce(obj_description(oid, 'pg_class'), '') = ''"
    assert store.values(f"SELECT count(*) > 15 FROM ({RELATIONS}) r") == [True]
    assert store.values(silent) == []


def test_every_column_has_a_comment(store: Store) -> None:
    silent = f"""
    SELECT relname || '.' || attname FROM ({RELATIONS}) r JOIN pg_attribute a ON a.attrelid = r.oid
    WHERE attnum > 0 AND NOT attisdropped AND coalesce(col_description(r.oid, attnum), '') = '' ORDER BY 1
    """
    assert store.values(silent) == []


def test_every_function_has_a_comment(store: Store) -> None:
    functions = f"FROM pg_proc WHERE pronamespace = '\"{SLUG}\"'::regnamespace"
    assert len(store.values(f"SELECT proname {functions}")) >= 5
    assert store.values(f"SELECT proname {functions} AND obj_description(oid, 'pg_proc') IS NULL") == []


def test_every_time_has_a_zone_and_every_value_is_exact(store: Store) -> None:
    loose = f"""
    SELECT table_name || '.' || column_name FROM information_schema.columns
    WHERE table_schema = '{SLUG}' AND table_name <> 'schema_migrations'
        AND data_type IN ('timestamp without time zone', 'double precision', 'real', 'json')
    """
    assert store.values(loose) == []


SEARCHED = [
    *((entity, column) for entity in ("flows", "campaigns", "forms") for column in ("name", "status")),
    *((entity, column) for entity in ("flows", "campaigns", "forms", "segments") for column in ("created_at",)),
    *((entity, column) for entity in ("flows", "campaigns", "forms", "segments") for column in ("updated_at", "id")),
    ("flows", "trigger_type"),
    ("campaigns", "channel"),
    ("campaigns", "send_time"),
    ("segments", "name"),
    ("segments", "is_active"),
    ("flow_report", "date"),
    ("flow_metrics", "date"),
    ("flow_metrics", "flow_id"),
    ("flow_metrics", "flow_name"),
    ("flow_metrics", "flow_status"),
    ("flow_metrics", "trigger_type"),
    ("campaign_metrics", "date"),
    ("form_metrics", "date"),
    ("segment_metrics", "date"),
    *((f"{entity}_superseded", "id") for entity in ("flows", "campaigns", "forms", "segments")),
    *((f"{entity}_superseded", "valid_from") for entity in ("flows", "campaigns", "forms", "segments")),
    ("sync_windows", "entity"),
]


@pytest.mark.parametrize(("table", "column"), SEARCHED)
def test_what_people_search_by_leads_an_index(store: Store, table: str, column: str) -> None:
    leading = """
    SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = to_regclass(:table) AND indisvalid AND indpred IS NULL
    """
    assert column in store.values(leading, table=table)


def test_a_name_may_be_longer_than_an_index_page(store: Store) -> None:
    store.run("INSERT INTO flows (id, name, raw, observed_at) VALUES ('a', repeat('é', 100000), '{}', now())")
    assert store.values("SELECT id FROM flows WHERE name = repeat('é', 100000)") == ["a"]
