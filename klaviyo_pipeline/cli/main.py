"""The command `klaviyo-pipeline`: its list of subcommands, and `main`, which prints every error as one line.

The module of a subcommand is imported when the subcommand is used. `--help` without a subcommand imports none of these
modules.
"""

import atexit
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

import click

from klaviyo_pipeline.config.extras import naming_extra
from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

COMMANDS = {
    "accounts": ("accounts_command", "List the configured accounts and check their entries."),
    "check": ("check_command", "Check that the data in Postgres is complete, plausible and fresh."),
    "database": ("server_commands", "Start or stop the embedded Postgres, or print its URL."),
    "demo": ("server_commands", "Sync 90 days of a simulated account into the embedded Postgres. Needs no settings."),
    "dev": ("server_commands", "Start the Dagster web UI and daemon."),
    "doctor": ("doctor_command", "Check the installation: settings, API key, database, Dagster."),
    "get": ("query_commands", "Print one object by id as JSON. If Postgres lacks it, request it from Klaviyo."),
    "list": ("query_commands", "List the objects of one kind in Postgres, such as flows or campaigns."),
    "metrics": ("query_commands", "Print the metrics of each flow for a range of days."),
    "migrate": ("setup_commands", "Create or upgrade the account's schema."),
    "plan": ("plan_command", "Estimate the requests and the time of a sync, without a request to Klaviyo."),
    "prune": ("prune_command", "Delete old run logs and operational records."),
    "report": ("report_command", "Write an HTML page with key metrics, charts and tables."),
    "reset-clock": ("setup_commands", "Correct stored times that are ahead of the database's clock."),
    "reset-windows": ("setup_commands", "Reset sync windows after a change of time zone or window size."),
    "sandbox": ("server_commands", "Serve a simulated Klaviyo account over HTTP."),
    "status": ("status_command", "Print the sync status of each asset with windows: progress, gaps, failures, size."),
    "sync": ("sync_command", "Sync the account into Postgres."),
}
"""For each command, the module that defines it and its description in the list of commands."""


class CommandGroup(click.Group):
    """A group that imports a command's module when the command is used, not when the commands are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with gc_frozen(), naming_extra(cmd_name):
            module = import_module(f"klaviyo_pipeline.cli.{COMMANDS[cmd_name][0]}")
        commands: Sequence[click.Command] = module.COMMANDS
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="klaviyo-pipeline")
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
def cli(debug: bool) -> None:
    """Sync a Klaviyo account into your own Postgres with Dagster.

    To try it without a Klaviyo account, run `klaviyo-pipeline demo`.

    To sync your own account, set KLAVIYO_API_KEY, KLAVIYO_TIMEZONE and KLAVIYO_DATABASE_URL in .env (see
    .env.example), check the installation with `klaviyo-pipeline doctor`, then run `klaviyo-pipeline sync`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit: with code 0 (done), 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    code = 1

    def leave() -> None:
        # A normal exit frees every object of Dagster's modules, and keeps the user waiting for a fifth of a second.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            return  # Python flushes again at the end of the process and reports the error.
        os._exit(code)

    if arguments is None:
        # Handlers run in reverse order, so the handler that is registered first runs last.
        atexit.register(leave)
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a command line and return the exit code."""
    # `--debug` is accepted after the subcommand too, where click would not know it.
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Prints a question mark for each character that the output's encoding lacks.
            stream.reconfigure(errors="replace")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = cli.main(arguments, prog_name="klaviyo-pipeline", standalone_mode=False)
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click before 8.2 lacks this class
            error.show()
            return 2
        return _failed(error.format_message(), error.exit_code)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, click.Abort) and error.__cause__ is None:
            # click raises Abort with a cause for Ctrl-C, and without a cause if a prompt is not answered with yes.
            return _failed("Not confirmed. Nothing was changed.", 130)
        return _failed("Interrupted. Committed data is kept; run sync again to resume.", 130)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if debug:
            raise
        from klaviyo_pipeline.cli.error_lines import clear_line

        return _failed(clear_line(error), 1)
    return code if isinstance(code, int) else 0


def _failed(line: str, code: int) -> int:
    click.echo(f"Error: {line}", err=True)
    return code
