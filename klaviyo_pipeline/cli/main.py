"""The group of commands, and how every error becomes one line.

A command's module is imported when the command is used: `--help` and `--version` wait for none of them.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

import click

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

COMMANDS = {
    "accounts": ("accounts_command", "Which accounts there are, and what is wrong with their entries."),
    "check": ("check_command", "Is what is in Postgres whole, plausible and fresh?"),
    "database": ("server_commands", "Start or stop the embedded Postgres, or print its URL."),
    "demo": ("server_commands", "Try it: 90 days of a simulated account, no settings needed."),
    "dev": ("server_commands", "Open the Dagster UI, and run its daemon."),
    "doctor": ("doctor_command", "What is right and wrong with this installation."),
    "get": ("query_commands", "One object by id, as JSON: from Postgres, or else Klaviyo."),
    "list": ("query_commands", "List flows, campaigns, forms or segments."),
    "metrics": ("query_commands", "What each flow did over a span of days, highest revenue first."),
    "migrate": ("setup_commands", "Create or upgrade the account's schema."),
    "plan": ("plan_command", "What `sync` would do now, without asking Klaviyo."),
    "prune": ("prune_command", "Remove old logs and finished bookkeeping."),
    "report": ("report_command", "One page of figures, tables and charts, to look at."),
    "reset-clock": ("setup_commands", "Reset times that are ahead of the database's clock."),
    "reset-windows": ("setup_commands", "Cut the windows anew, after a changed zone or window size."),
    "sandbox": ("server_commands", "Serve a simulated Klaviyo account over HTTP."),
    "status": ("status_command", "How far each asset is synced, what is missing, what failed, and its size."),
    "sync": ("sync_command", "Bring the account into Postgres."),
}
"""The module of each command, and the line for it in the list of commands."""


class CommandGroup(click.Group):
    """A group that imports a command's module when the command is used, not when the commands are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with gc_frozen():
            module = import_module(f"klaviyo_pipeline.cli.{COMMANDS[cmd_name][0]}")
        return next(command for command in module.COMMANDS if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="klaviyo-pipeline")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """A Klaviyo account in your own Postgres, by sync window, through Dagster.

    Try it without an account: `klaviyo-pipeline demo`. With one: put KLAVIYO_API_KEY and KLAVIYO_DATABASE_URL
    into .env (see .env.example), then `klaviyo-pipeline sync`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: exit code 0 done, 1 failed, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Good in any place of the command line, whatever the command.
    debug = "--debug" in given
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal or the file cannot hold becomes a question mark.
            stream.reconfigure(errors="replace")
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = cli.main(given, prog_name="klaviyo-pipeline", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped; what was committed stays, and the next sync takes up the rest.", 130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        from klaviyo_pipeline.cli.error_lines import clear_line

        _fail(clear_line(error), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str, code: int) -> None:
    click.echo(f"Error: {line}", err=True)
    sys.exit(code)
