"""`klaviyo-pipeline prune`."""

from typing import TYPE_CHECKING, Any

import click

from klaviyo_pipeline.cli.shared import console, json_text, quiet, settings_of_environment, table, warehouse

if TYPE_CHECKING:
    from klaviyo_pipeline.upkeep.prune import Pruned

KINDS = {
    "events": "events of Dagster's runs",
    "runs": "Dagster's runs, with all that is theirs",
    "check_results": "check results that later ones replaced",
    "ticks": "ticks of schedules and sensors",
    "compute_logs": "captured outputs of steps",
    "api_calls": "counts of requests, by run and endpoint",
    "census_runs": "censuses",
    "lookup_misses": "ids that Klaviyo did not know",
}
COLUMNS = {"what": "what", "count": "count"}


@click.command(short_help="Remove old logs and finished bookkeeping.")
@click.option(
    "--older-than", "days", type=click.IntRange(1, 36500), help="Days to keep. [default: KLAVIYO_RETENTION_DAYS]"
)
@click.option("--dry-run", is_flag=True, help="Count what would go, and remove nothing.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def prune(days: int | None, dry_run: bool, form: str) -> None:
    """Remove logs of runs that ended long ago, and finished bookkeeping.

    Data, history, the ledger and the last materialization of every window stay: what the UI and `status` show of
    windows is the same afterwards. Runs that are not finished are never touched. Dagster's storage is pruned for all
    accounts that share it. Postgres uses the freed space again; it gives it back to the system on VACUUM FULL alone.
    """
    settings = settings_of_environment()
    quiet()
    shown = console(err=form == "json")
    with warehouse(settings) as engine:
        from dagster import DagsterInstance

        from klaviyo_pipeline.instance import use_project_instance
        from klaviyo_pipeline.upkeep.prune import prune as prune_all

        use_project_instance()
        with DagsterInstance.get() as instance:
            pruned = prune_all(
                settings.account,
                engine,
                instance,
                lambda line: shown.print(line, markup=False),
                days=days or settings.account.retention_days,
                dry_run=dry_run,
            )
    if form == "json":
        click.echo(json_text({"before": pruned.before, "dry_run": dry_run, **pruned.counts()}))
    else:
        shown.print(f"{'Would go' if dry_run else 'Gone'}: what is from before {pruned.before:%Y-%m-%d %H:%M} UTC.")
        shown.print(table(_rows(pruned), COLUMNS))
        if pruned.runs and pruned.runs.thinned:
            shown.print(f"{pruned.runs.thinned:,} old runs stay, without their logs: the UI shows windows by them.")


COMMANDS = (prune,)


def _rows(pruned: "Pruned") -> list[dict[str, Any]]:
    return [{"what": KINDS[kind], "count": count} for kind, count in pruned.counts().items() if kind in KINDS]
