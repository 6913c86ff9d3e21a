"""The command group. Prints every error as one line."""

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
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
def cli(debug: bool) -> None:
    """Sync a Klaviyo account into your own Postgres with Dagster.

    To try it without a Klaviyo account, run `klaviyo-pipeline demo`.

    To sync your own account, set KLAVIYO_API_KEY, KLAVIYO_TIMEZONE and KLAVIYO_DATABASE_URL in .env (see
    .env.example), check the installation with `klaviyo-pipeline doctor`, then run `klaviyo-pipeline sync`.
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
    """Run the command line. The exit code is 0 (done), 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Accepted anywhere on the command line, by every command.
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the output's encoding lacks becomes a question mark.
            stream.reconfigure(errors="replace")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = cli.main(arguments, prog_name="klaviyo-pipeline", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("Interrupted. Committed data is kept; run sync again to resume.", 130)
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
