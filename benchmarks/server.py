"""A Postgres to throw away, with the settings of the embedded one: what is measured is made durable."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres

# Autovacuum and checkpoints come when they like: they would land on one of two alternating measurements.
STEADY = {"autovacuum": "off", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}


@contextmanager
def throw_away_server() -> Iterator[str]:
    """libpq URL of a server of its own, for as long as the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="klaviyo-benchmarks-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", settings=STEADY)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
