"""Syncs the entities with dlt's rest_api source, and merges them into Postgres. `fetch` compares it with the pipeline.

Requires an interpreter with `dlt[postgres]`. The variables `BENCH_ACCOUNT_URL`, `BENCH_ACCOUNT_KEY` and
`BENCH_DATABASE_URL` have the account's URL, its key and the database's URL. Every listing that the pipeline reads is a
separate resource. dlt reads the resources concurrently.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any


def resources() -> list[dict[str, Any]]:
    """The listings in dlt's configuration format."""
    made = [
        _resource("flows", f"equals(archived,{archived})", 50, "updated", {"include": "flow-actions"})
        for archived in ("false", "true")
    ]
    made += [
        _resource("campaigns", f"equals(archived,{archived})", 100, "updated_at", {}) for archived in ("false", "true")
    ]
    related = {"include": "campaign,campaign-variations"}
    made.append(_resource("campaign-messages", None, 100, "id", related))
    return [*made, _resource("forms", None, 100, "updated_at", {}), _resource("segments", None, 10, "updated", {})]


def _resource(entity: str, filters: str | None, size: int, sort: str, more: dict[str, str]) -> dict[str, Any]:
    params = {"sort": sort, "page[size]": size, **more, **({"filter": filters} if filters else {})}
    return {
        "name": f"{entity.replace('-', '_')}_{abs(hash(filters)) % 10**6}",
        "table_name": entity.replace("-", "_"),
        "primary_key": "id",
        "write_disposition": "merge",
        "max_table_nesting": 0,
        "parallelized": True,
        "endpoint": {"path": f"api/{entity}", "params": params, "data_selector": "data"},
    }


def main() -> None:
    """Sync once."""
    url, key, database = (os.environ[f"BENCH_{name}"] for name in ("ACCOUNT_URL", "ACCOUNT_KEY", "DATABASE_URL"))
    import dlt
    from dlt.sources.rest_api import rest_api_source

    source = rest_api_source(
        {
            "client": {
                "base_url": url,
                "headers": {"Authorization": f"Klaviyo-API-Key {key}", "revision": "2026-10-15"},
                "paginator": {"type": "json_link", "next_url_path": "links.next"},
            },
            "resources": resources(),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "benchmark",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(database),
            dataset_name="by_dlt",
        )
        pipeline.run(source)


if __name__ == "__main__":
    main()
