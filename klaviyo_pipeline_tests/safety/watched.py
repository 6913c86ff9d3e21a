"""A shell with an unusual key and password, and the search for both in everything that was printed or stored."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import psycopg
import pytest
from psycopg import sql

from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.sandbox.sandbox_account import READ_SCOPES, SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.support import environment

PROGRAM = str(Path(sys.executable).with_name("klaviyo-pipeline"))
KEY = "pk_k3y'\"$%40{}[]\\&?=+/#;|<>~^odd"
PASSWORD = "p@ss\"/w%ord's:#?&$\\"


@dataclass
class Watched:
    """A shell with an unusual key and password, and everything that it and its child processes printed."""

    server: SandboxServer
    database: str
    slug: str
    variables: dict[str, str]
    folder: Path
    secrets: tuple[str, ...]
    output: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **changed: str) -> int:
        """The exit code of a command. Its output, and that of its child processes, is recorded."""
        process = subprocess.Popen(
            [PROGRAM, *arguments],
            env={**os.environ, **self.variables, **changed},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with self.arguments_of(process.pid):
            out, _ = process.communicate(timeout=200)
        self.record(out, " ".join(arguments), *sorted(changed))
        return process.returncode

    def run_here(
        self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], *arguments: str, **changed: str
    ) -> int:
        """The same as `run`, in this process, which is faster. The traceback is what Python would print."""
        for name, value in {**self.variables, **changed}.items():
            patch.setenv(name, value)
        capture.readouterr()
        code, trace = 0, ""
        try:
            main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception as error:
            code, trace = 1, "".join(traceback.format_exception(error))
        self.record("".join([*capture.readouterr(), trace]), " ".join(arguments), *sorted(changed))
        return code

    def record(self, output: str, *source: str) -> None:
        self.output[f"{len(self.output)}: {' '.join(source)}"] = output

    @contextmanager
    def arguments_of(self, pid: int) -> Iterator[None]:
        """Records the arguments of this process and its child processes while the block runs."""
        over, seen = threading.Event(), set[str]()

        def watch() -> None:
            while not over.wait(0.05):
                try:
                    parent = psutil.Process(pid)
                    for process in [parent, *parent.children(recursive=True)]:
                        seen.add("\0".join(process.cmdline()))
                except psutil.Error:
                    continue

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            assert seen
            self.record("\n".join(seen), "arguments")

    def look_everywhere(self) -> None:
        """Nothing that was printed or stored contains a secret, in any encoding."""
        places = {**self.output, **dict(self._tables()), **dict(self._files())}
        for place, text in places.items():
            for secret in self.secrets:
                assert secret not in text, f"{place}: {_around(text, secret)}"

    def _tables(self) -> Iterator[tuple[str, str]]:
        with psycopg.connect(self.database) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN (%s, 'public')", [self.slug]
            ).fetchall()
            assert len(tables) > 40
            for name in tables:
                # Both as Postgres prints the text, and with JSON escapes decoded.
                query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(*name))
                text = "\n".join(row for (row,) in connection.execute(query))
                yield ".".join(name), text + text.replace('""', '"').replace("\\\\", "\\").replace('\\"', '"')

    def _files(self) -> Iterator[tuple[str, str]]:
        for path in self.folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_text(errors="replace")


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 200) : at + 50]


@contextmanager
def watched_on(database: str, folder: Path, shop: SandboxAccount, slug: str) -> Iterator[Watched]:
    """Serve the account, and make a role with the password the owner of this empty database."""
    shop.api_keys = {KEY: set(READ_SCOPES)}
    parts = urlsplit(database)
    role = f"odd_{parts.path[6:18]}"
    url = parts._replace(netloc=f"{role}:{quote(PASSWORD, safe='')}@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in ("CREATE ROLE {} LOGIN PASSWORD {}", "ALTER DATABASE {database} OWNER TO {}"):
            connection.execute(
                sql.SQL(statement).format(
                    sql.Identifier(role), sql.Literal(PASSWORD), database=sql.Identifier(parts.path[1:])
                )
            )
        with SandboxServer(shop, rate_scale=0) as server:
            variables = environment(shop, server.url, url, folder) | {"KLAVIYO_ACCOUNT": slug}
            secrets = (KEY, PASSWORD, quote(PASSWORD, safe=""), quote(KEY, safe=""))
            yield Watched(server, database, slug, variables, folder, secrets)
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(parts.path[1:])))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
