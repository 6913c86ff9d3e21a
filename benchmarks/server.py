"""A temporary Postgres with the settings of the embedded server, which make commits durable."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres

# Autovacuum and checkpoints start at random times, and would slow down one of two alternating measurements.
STEADY = {"autovacuum": "off", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}


@contextmanager
def throw_away_server() -> Iterator[str]:
    """The libpq URL of a temporary server that runs while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="klaviyo-benchmarks-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", settings=STEADY)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
