"""Merges rows into Postgres with dlt, in phases. `other_writers` compares it with the write path.

Requires an interpreter with `dlt[postgres]`. The argument is the file with the rows, and `BENCH_DATABASE_URL` the URL
of the database. JSON documents are stored as such, not split into child tables.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import time
import uuid
from pathlib import Path


def main() -> None:
    """Print the seconds of each phase as JSON."""
    import dlt

    given = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - written by the benchmark itself
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "benchmark_merge",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(os.environ["BENCH_DATABASE_URL"]),
            dataset_name=f"dlt_{uuid.uuid4().hex[:12]}",
        )
        for phase, rows in given["phases"].items():
            resource = dlt.resource(
                rows, name="rows", primary_key=given["key"], write_disposition="merge", max_table_nesting=0
            )
            began = time.perf_counter()
            pipeline.run(resource)
            seconds[phase] = time.perf_counter() - began
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
