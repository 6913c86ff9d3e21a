"""The commands that start a server: `demo`, `dev`, `sandbox` and `database`."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType

import click

from klaviyo_pipeline.cli.check_command import check_results, checks_summary
from klaviyo_pipeline.cli.query_commands import METRICS_COLUMNS, RATES_NOTE, read_metrics
from klaviyo_pipeline.cli.shared import console, quiet, refresh_views, table, warehouse
from klaviyo_pipeline.cli.status_command import read_status, status_table
from klaviyo_pipeline.cli.sync_command import run_sync, sync_request
from klaviyo_pipeline.config.accounts import errors_in_terms_of, load_accounts
from klaviyo_pipeline.config.extras import require_extras
from klaviyo_pipeline.config.settings import FILES, IS_CHECKOUT, PROJECT_ROOT, STATE_VARIABLE, Account, load_settings
from klaviyo_pipeline.postgres.server.embedded import project_server
from klaviyo_pipeline.sandbox.generate import generate_account
from klaviyo_pipeline.sandbox.sandbox_account import SANDBOX_KEY, SandboxAccount

DEMO_DAYS = 90
DEMO_SEED = 7
DEMO_RATE_SCALE = 10
"""The demo's sandbox allows ten times the published rates, so that the demo takes only a minute or two."""
TOP_FLOWS = 10
QUIET_DEV = "ignore:Function `dev_command` is superseded:FutureWarning"
"""Suppresses the advice of `dagster dev` to use its successor, which this project does not install."""


@click.command()
def demo() -> None:
    """Sync 90 days of a simulated account into the embedded Postgres, without a Klaviyo account.

    The command starts a sandbox, which behaves like Klaviyo's API, on the loopback interface. It syncs the default
    assets with Dagster into the schema `demo`, runs the checks, and prints the results. Of your settings, it uses only
    KLAVIYO_STATE_DIR. A second run writes only what has changed since the first.

    \b
    Examples:
      klaviyo-pipeline demo
      klaviyo-pipeline dev --demo
    """
    require_extras("demo", "embedded", "sandbox", "ui")
    output = console()
    output.print(f"Syncing the last {DEMO_DAYS} days of a simulated Klaviyo account into schema demo.\n")
    with demo_environment():
        settings = load_settings()
        today = settings.account.today(datetime.now(UTC))
        first = settings.account.start_date
        failed = run_sync(settings, sync_request(settings.account, (), first, today))
        output.print()
        output.print(status_table(read_status(settings)))
        output.print(f"\n{checks_summary(check_results(settings))} The UI shows the result of each check.")
        top = read_metrics(settings, first, today)[:TOP_FLOWS]
        output.print(f"\n[bold]Top flows by revenue, {first} to {today}[/bold]")
        output.print(table(top, METRICS_COLUMNS))
        output.print(RATES_NOTE)
        url = project_server().dsn
    commands = IN_A_CHECKOUT if IS_CHECKOUT else INSTALLED
    output.print(NEXT_STEPS.format(url=url, **commands), markup=False, soft_wrap=True)
    if failed:
        raise click.exceptions.Exit(1)


NEXT_STEPS = """
Next steps
  {dev:<25} open this account in the Dagster UI, with its sandbox running
  psql "{url}"
                            read the tables in schema demo (any Postgres client works)
  {env:<25} set KLAVIYO_API_KEY and KLAVIYO_TIMEZONE; set KLAVIYO_DATABASE_URL for your own Postgres
  {command} sync
                            sync your own account; `{command} dev` starts its UI\
"""
IN_A_CHECKOUT = {"dev": "make dev ACCOUNT=demo", "env": "cp .env.example .env", "command": ".venv/bin/klaviyo-pipeline"}
INSTALLED = {"dev": "klaviyo-pipeline dev --demo", "env": "create a file .env", "command": "klaviyo-pipeline"}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the UI, which has no login.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Port of the UI.")
@click.option("--demo", "of_demo", is_flag=True, help="Open the account of the demo, and run its sandbox.")
def dev(host: str, port: int, of_demo: bool) -> None:
    """Start the Dagster web UI and the daemon, which runs schedules and sensors. Ctrl-C stops both.

    Before it starts them, the command migrates the schema of every configured account.

    \b
    Examples:
      klaviyo-pipeline dev
      klaviyo-pipeline dev --demo --port 3001
    """
    require_extras("dev", "ui", *(("sandbox", "embedded") if of_demo else ()))
    quiet()
    _check_free(host, port)
    with demo_environment() if of_demo else contextlib.nullcontext():
        accounts = load_accounts()
        for line in accounts.errors:
            click.echo(f"Error: {line}", err=True)
        for settings in accounts.every:
            with errors_in_terms_of(settings.account), warehouse(settings, migrated=True):
                pass
        if len(accounts.every) > 1:
            refresh_views(accounts.every)
        from klaviyo_pipeline.dagster_internals.storage import use_project_instance

        folder = use_project_instance()
        from klaviyo_pipeline.sync.instance_state import fill_new_instance

        fill_new_instance([settings.account for settings in accounts.every], click.echo)
        single = f"account {accounts.every[0].account.slug}"
        summary = single if len(accounts.every) == 1 else f"{len(accounts.every)} accounts"
        click.echo(f"Dagster UI on http://{host}:{port} ({summary}). Press Ctrl-C to stop.")
        dagster = os.path.join(os.path.dirname(sys.executable), "dagster")
        arguments = ["dev", "-h", host, "-p", str(port), "-w", str(FILES / "workspace.yaml")]
        code = _run_until_stopped([dagster, *arguments], folder if IS_CHECKOUT else PROJECT_ROOT)
    raise click.exceptions.Exit(code)


def _check_free(host: str, port: int) -> None:
    """Raise an error if the port is in use: Dagster's web server would exit, but its daemon would keep running."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop the process there, or choose another --port."
        ) from None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
@click.option("--seed", default=DEMO_SEED, show_default=True, help="Seed from which the account is generated.")
@click.option("--timezone", default="America/New_York", show_default=True, help="The account's time zone.")
@click.option(
    "--rate-scale", default=1.0, show_default=True, help="Multiplies Klaviyo's published rate limits; 0 removes them."
)
def sandbox(host: str, port: int, seed: int, timezone: str, rate_scale: float) -> None:
    """Serve a simulated Klaviyo account over HTTP until you press Ctrl-C.

    The server enforces the rules of Klaviyo's API. To use it in other commands, put the settings that this command
    prints into .env or the environment.

    \b
    Examples:
      klaviyo-pipeline sandbox
      klaviyo-pipeline sandbox --port 9000 --seed 3 --rate-scale 0
    """

    require_extras("sandbox", "sandbox")
    from klaviyo_pipeline.sandbox.server import run as serve

    def ready(url: str) -> None:
        click.echo(f"KLAVIYO_API_URL={url}\nKLAVIYO_API_KEY={SANDBOX_KEY}\nKLAVIYO_TIMEZONE={timezone}")

    try:
        serve(sandbox_account(seed, timezone), host, port, rate_scale=rate_scale, ready=ready)
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port."
        ) from None


@click.command()
@click.argument("action", type=click.Choice(["start", "stop", "url"]))
def database(action: str) -> None:
    """Start or stop the embedded Postgres, or print its URL for psql and other clients.

    Both `start` and `url` start the server if it is not running, and print its URL.

    \b
    Examples:
      klaviyo-pipeline database stop
      psql "$(klaviyo-pipeline database url)"
    """
    require_extras("database", "embedded")
    server = project_server()
    if action == "stop":
        server.stop()
        click.echo("The embedded Postgres is stopped.")
    else:
        click.echo(server.start())


COMMANDS = (demo, dev, sandbox, database)


def sandbox_account(seed: int = DEMO_SEED, timezone: str = "America/New_York") -> SandboxAccount:
    """The simulated account of this seed, with changes from two years ago to the end of this year.

    The same seed gives the same account until the year ends.
    """
    year = datetime.now(UTC).year
    return generate_account(seed, timezone=timezone, start=date(year - 2, 1, 1), until=date(year, 12, 31))


@contextlib.contextmanager
def demo_environment() -> Iterator[None]:
    """Run the demo's sandbox during the block.

    Replaces the `KLAVIYO_*` variables of this process, except KLAVIYO_STATE_DIR, with those of the demo.
    """
    from klaviyo_pipeline.sandbox.server import SandboxServer

    account = sandbox_account()
    for name in [name for name in os.environ if name.startswith("KLAVIYO_") and name != STATE_VARIABLE]:
        del os.environ[name]
    with SandboxServer(account, rate_scale=DEMO_RATE_SCALE) as server:
        today = Account(timezone=account.timezone).today(datetime.now(UTC))
        os.environ |= {
            "KLAVIYO_IGNORE_DOTENV": "1",
            "KLAVIYO_ACCOUNT": "demo",
            "KLAVIYO_API_URL": server.url,
            "KLAVIYO_API_KEY": SANDBOX_KEY,
            "KLAVIYO_TIMEZONE": account.timezone,
            "KLAVIYO_START_DATE": (today - timedelta(days=DEMO_DAYS - 1)).isoformat(),
            "KLAVIYO_RATE_SCALE": str(DEMO_RATE_SCALE),
        }
        yield


def _run_until_stopped(command: list[str], folder: Path) -> int:
    """Run a command in this folder and wait until it exits. SIGINT and SIGTERM are passed on to it as SIGINT.

    In a checkout, `folder` must be `DAGSTER_HOME`: Dagster prints a warning if it starts in another folder with a
    dagster.yaml. Returns 0 if the command succeeds or is stopped by SIGINT, otherwise 1.
    """
    os.environ.setdefault("PYTHONWARNINGS", QUIET_DEV)
    process: subprocess.Popen[bytes] | None = None

    def end(number: int, frame: FrameType | None) -> None:
        if process is not None:
            process.send_signal(signal.SIGINT)

    # A background job of a shell ignores SIGINT, and a child process would inherit this. The handlers are therefore set
    # before the process starts.
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(command, cwd=folder)  # noqa: S603 - our own arguments
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if code in (0, -signal.SIGINT) else 1
