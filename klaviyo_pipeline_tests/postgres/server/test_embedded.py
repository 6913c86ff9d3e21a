"""The embedded server: real processes, real kills."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from klaviyo_pipeline.postgres.server import installation
from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres, EmbeddedPostgresError, ensure_database

pytestmark = pytest.mark.slow

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must hand the server to another user")


@pytest.fixture
def home(server_folder: Path) -> Iterator[Path]:
    """A home that does not exist yet; its server is stopped after the test."""
    home = server_folder / uuid.uuid4().hex
    yield home
    EmbeddedPostgres(home).stop()


@pytest.fixture(scope="module")
def cluster(server_folder: Path) -> Path:
    """The home of a stopped server, to be copied: creating the cluster takes longest."""
    home = server_folder / "cluster"
    EmbeddedPostgres(home, settings={"fsync": "off"}).start()
    EmbeddedPostgres(home).stop()
    (home / "port").unlink()
    return home


@pytest.fixture
def made(home: Path, cluster: Path) -> Path:
    """A home with a cluster, whose server has not been started there."""
    # Unlike shutil, cp keeps the owner.
    subprocess.run(["cp", "-a", str(cluster), str(home)], check=True)
    return home


def server(home: Path) -> EmbeddedPostgres:
    # Without fsync, data survive a kill of the server; only a crash of the machine would lose them.
    return EmbeddedPostgres(home, settings={"fsync": "off"})


def value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def postmaster(running: EmbeddedPostgres) -> int:
    return int((running.data / "postmaster.pid").read_text().splitlines()[0])


def kill(running: EmbeddedPostgres) -> None:
    os.kill(postmaster(running), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while running.running:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_fresh_home_becomes_a_server_with_its_database(home: Path) -> None:
    dsn = server(home).start()
    assert value(dsn, "SELECT current_database()") == "klaviyo"
    assert value(dsn, "SELECT current_setting('server_version_num')::int / 10000") == 18
    assert value(dsn, "SELECT lower('ÄÖ')") == "äö"


def test_starting_again_gives_the_same_server(made: Path) -> None:
    dsn = server(made).start()
    pid = postmaster(server(made))
    assert server(made).start() == dsn
    assert postmaster(server(made)) == pid


def test_data_and_address_stay_the_same_after_a_stop(made: Path) -> None:
    dsn = server(made).start()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 5 AS five")
    server(made).stop()
    assert not server(made).running
    assert server(made).start() == dsn
    assert value(dsn, "SELECT five FROM kept") == 5


def test_stopping_a_stopped_server_does_nothing(home: Path) -> None:
    server(home).stop()
    server(home).start()
    server(home).stop()
    server(home).stop()


def test_it_listens_only_on_the_loopback_address_and_has_no_unix_socket(made: Path) -> None:
    dsn = server(made).start()
    assert value(dsn, "SHOW listen_addresses") == "127.0.0.1"
    assert value(dsn, "SHOW unix_socket_directories") == ""


def test_the_password_is_required_and_private(home: Path) -> None:
    dsn = server(home).start()
    assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn, password="guess")


def test_the_server_inherits_no_environment_of_the_caller(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAVIYO_API_KEY", "pk_secret")
    monkeypatch.setenv("LC_ALL", "xx_XX.no-such-locale")
    monkeypatch.setenv("PGPORT", "1")
    server(made).start()
    environment = psutil.Process(postmaster(server(made))).environ()
    assert not [name for name in environment if name.startswith(("KLAVIYO_", "LC_", "PGPORT"))]


def test_a_path_may_have_spaces_and_quotes(home: Path) -> None:
    odd = home / "my project" / 'it\'s "$HOME"' / ("long" * 40)
    odd.parent.mkdir(parents=True)
    running = server(odd)
    try:
        assert value(running.start(), "SELECT 1") == 1
    finally:
        running.stop()


def test_threads_that_start_it_at_once_get_one_server(home: Path) -> None:
    begin = threading.Barrier(4)

    def one() -> str:
        begin.wait()
        return server(home).start()

    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(one) for _ in range(4)]}
    assert len(found) == 1


def test_processes_that_start_it_at_once_get_one_server(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres;"
        "print(EmbeddedPostgres(Path(sys.argv[1]), {'fsync': 'off'}).start())"
    )
    command = [sys.executable, "-c", script, str(home)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {racer.communicate(timeout=120)[0] for racer in racers}
    assert len(answers) == 1
    assert value(answers.pop().strip(), "SELECT 1") == 1


def test_a_killed_server_is_started_again_with_its_data(made: Path) -> None:
    dsn = server(made).start()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept ()")
    kill(server(made))
    assert server(made).start() == dsn
    assert value(dsn, "SELECT to_regclass('kept')::text") == "kept"


def test_another_process_with_the_old_pid_is_not_taken_for_the_server(made: Path) -> None:
    dsn = server(made).start()
    kill(server(made))
    pid_file = server(made).data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert not server(made).running
    assert server(made).start() == dsn
    assert postmaster(server(made)) != os.getpid()


def test_a_port_in_use_is_left_alone_and_another_one_is_stored(made: Path) -> None:
    server(made).start()
    server(made).stop()
    port = int((made / "port").read_text())
    with socket.create_server(("127.0.0.1", port)):
        dsn = server(made).start()
        assert f":{port}/" not in dsn
    server(made).stop()
    assert server(made).start() == dsn


def test_a_half_made_cluster_is_removed(home: Path) -> None:
    left_over = home / ".initdb-killed" / "data"
    left_over.mkdir(parents=True)
    home.chmod(0o711)
    server(home).start()
    assert not left_over.parent.exists()
    assert not list(home.glob(".initdb-*"))


def test_a_moved_project_finds_its_running_server(made: Path) -> None:
    dsn = server(made).start()
    moved = made.with_name(f"{made.name}-moved")
    made.rename(moved)
    try:
        assert server(moved).running
        assert server(moved).start() == dsn
    finally:
        server(moved).stop()


def test_a_dropped_database_is_created_again(made: Path) -> None:
    dsn = server(made).start()
    with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE klaviyo")
    assert value(server(made).start(), "SELECT current_database()") == "klaviyo"


def test_a_server_that_cannot_start_reports_why_in_one_line(made: Path) -> None:
    wrong = EmbeddedPostgres(made, settings={"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedPostgresError, match=r'invalid value.*"shared_buffers".*log') as caught:
        wrong.start()
    assert "\n" not in str(caught.value)


def test_a_stopped_server_has_no_address(home: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="is not running"):
        _ = server(home).dsn


@as_root
def test_as_root_the_server_runs_as_another_user_and_no_existing_folder_is_opened(home: Path) -> None:
    home.parent.chmod(0o711)
    before = home.parent.stat().st_mode
    server(home).start()
    assert psutil.Process(postmaster(server(home))).uids().real != 0
    assert home.parent.stat().st_mode == before


@as_root
def test_as_root_below_a_closed_folder_the_data_go_where_the_server_can_reach_them(
    server_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "FALLBACK_PARENT", server_folder)
    closed = home / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)
    running = server(closed / "postgres")
    try:
        dsn = running.start()
        assert running.folder.parent == server_folder
        assert (closed / "postgres" / "location").read_text().strip() == str(running.folder)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        running.stop()
        assert server(closed / "postgres").start() == dsn
    finally:
        running.stop()


@as_root
def test_as_root_the_data_of_a_removed_home_are_neither_taken_nor_hidden(
    server_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "FALLBACK_PARENT", server_folder)
    home.mkdir()
    home.chmod(0o700)
    running = server(home / "postgres")
    running.start()
    running.stop()
    (home / "postgres" / "location").unlink()
    with pytest.raises(EmbeddedPostgresError, match="An earlier database of this project is still in"):
        server(home / "postgres").start()


@as_root
def test_as_root_programs_out_of_reach_are_copied_beside_the_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    spec = real(installation.MODULE)
    assert spec is not None
    assert spec.origin is not None
    own = Path(spec.origin).parent
    closed = home.with_name(f"{home.name}-venv")
    closed.mkdir(mode=0o700)
    (closed / own.name).symlink_to(own)
    (closed / f"{own.name}.libs").symlink_to(own.with_name(f"{own.name}.libs"))
    spec.origin = str(closed / own.name / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == installation.MODULE else real(name))
    server(home).start()
    program = Path(psutil.Process(postmaster(server(home))).exe())
    assert home in program.parents


def test_another_database_is_created_once_by_concurrent_callers(made: Path) -> None:
    dsn = server(made).start()
    begin = threading.Barrier(4)

    def one() -> str:
        begin.wait()
        return ensure_database(dsn, "dag ster/ä")

    with ThreadPoolExecutor(4) as pool:
        (found,) = {future.result() for future in [pool.submit(one) for _ in range(4)]}
    assert value(found, "SELECT current_database()") == "dag ster/ä"


def test_a_role_that_may_not_create_databases_is_refused(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE embedded_guest LOGIN PASSWORD 'guest' NOCREATEDB")
        try:
            guest = database.replace(database.split("//")[1].split("@")[0], "embedded_guest:guest")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ensure_database(guest, "not_for_guests")
        finally:
            connection.execute("DROP ROLE embedded_guest")
