"""PgBouncer in transaction mode, for tests with a pooler between the pipeline and Postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from klaviyo_pipeline.postgres.server.embedded import PORTS

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "pgbouncer is not installed; Debian's package has the same name"
PATIENCE = 30.0
UNPRIVILEGED = "nobody"

SETTINGS = """
[databases]
{databases} = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {user}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
{more}
"""


@contextmanager
def transaction_pooler(
    server: str, folder: Path, *, pool_size: int, databases: str = "*", more: str = ""
) -> Iterator[str]:
    """URL of the same database as `server`, through a pooler that opens at most `pool_size` sessions for it.

    PgBouncer refuses to run as root, so root runs it as an unprivileged user, which needs access to `folder`.
    `databases` are the databases that it serves; `more` are additional settings.
    """
    assert PROGRAM is not None
    parts = urlsplit(server)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    place = folder / "pgbouncer"
    place.mkdir(exist_ok=True)
    users, settings, log = place / "users.txt", place / "pgbouncer.ini", place / "log"
    users.write_text(f'"{user}" "{password}"\n')
    root = os.geteuid() == 0
    for listen in PORTS:
        settings.write_text(
            SETTINGS.format(
                databases=databases,
                host=parts.hostname,
                port=parts.port or 5432,
                listen=listen,
                users=users,
                user=user,
                pool_size=pool_size,
                more=more,
            )
        )
        if root:
            for path in (place, users, settings):
                shutil.chown(path, UNPRIVILEGED)
        url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{listen}").geturl()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [PROGRAM, str(settings)], stdout=output, stderr=output, user=UNPRIVILEGED if root else None
            )
        try:
            if _answers(url, process):
                yield url
                return
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)
        assert "Address already in use" in log.read_text(), log.read_text()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return True
    return False
