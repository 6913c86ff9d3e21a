"""The group of commands, and how every error becomes one line."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from klaviyo_pipeline.cli import (
    accounts_command,
    check_command,
    doctor_command,
    plan_command,
    prune_command,
    query_commands,
    report_command,
    server_commands,
    setup_commands,
    sync_command,
)
from klaviyo_pipeline.cli.shared import clear_line


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="klaviyo-pipeline")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """A Klaviyo account in your own Postgres, by sync window, through Dagster.

    Try it without an account: `klaviyo-pipeline demo`. With one: put KLAVIYO_API_KEY and KLAVIYO_DATABASE_URL
    into .env (see .env.example), then `klaviyo-pipeline sync`.
    """


for module in (
    sync_command,
    plan_command,
    query_commands,
    report_command,
    check_command,
    accounts_command,
    setup_commands,
    prune_command,
    doctor_command,
    server_commands,
):
    for command in module.COMMANDS:
        cli.add_command(command)


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
        _fail(clear_line(error), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str, code: int) -> None:
    click.echo(f"Error: {line}", err=True)
    sys.exit(code)
