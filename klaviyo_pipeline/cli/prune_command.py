"""The command `klaviyo-pipeline prune`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from klaviyo_pipeline.cli.shared import (
    DAGSTER,
    Chosen,
    accounts_option,
    chosen_accounts,
    console,
    format_option,
    json_text,
    quiet,
    table,
    warehouse,
)
from klaviyo_pipeline.config.settings import Settings
from klaviyo_pipeline.config.wording import counted

if TYPE_CHECKING:
    from klaviyo_pipeline.dagster_internals.run_pruning import ProgressCallback
    from klaviyo_pipeline.maintenance.prune import Pruned

KINDS = {
    "events": "events of Dagster runs",
    "runs": "Dagster runs",
    "check_results": "superseded check results",
    "ticks": "ticks of schedules and sensors",
    "compute_logs": "captured output of steps",
    "api_calls": "request counts by run and endpoint",
    "census_runs": "census records",
    "lookup_misses": "cached 404s",
}
COLUMNS = {"what": "records", "count": "count"}


@click.command()
@accounts_option
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(1, 36500),
    help="Keep the records of this many days. [default: KLAVIYO_RETENTION_DAYS]",
)
@click.option("--dry-run", is_flag=True, help="Count the records that would be deleted, and delete nothing.")
@format_option
def prune(slugs: tuple[str, ...], days: int | None, dry_run: bool, form: str) -> None:
    """Delete the logs of old runs, and old operational records such as request counts.

    Data, history, the ledger and the last materialization of every window are kept, so the UI and `status` show the
    same windows as before. Unfinished runs are never changed. Dagster's storage is always pruned for all accounts that
    share it. Postgres reuses the freed space; only VACUUM FULL returns it to the operating system.

    \b
    Examples:
      klaviyo-pipeline prune --dry-run
      klaviyo-pipeline prune --older-than 30
    """
    quiet()
    output = console(err=form == "json")
    with chosen_accounts(slugs) as chosen:
        pruned = _prune(chosen, lambda line: output.print(line, markup=False), days=days, dry_run=dry_run)
        if form == "json":
            summaries = [{**of, "before": one.before, "dry_run": dry_run, **one.counts()} for of, one in pruned]
            click.echo(json_text(summaries if chosen.several else summaries[0]))
            return
        for _, one in pruned[:1]:
            action = "Dry run: would delete" if dry_run else "Deleted"
            output.print(f"{action} records older than {one.before:%Y-%m-%d %H:%M} UTC.")
        columns = {"of": "owner", **COLUMNS} if chosen.several else COLUMNS
        output.print(table([{**of, **row} for of, one in pruned for row in _rows(one)], columns))
        for _, one in pruned:
            if one.runs and one.runs.thinned:
                runs = counted(one.runs.thinned, "old run")
                kept = "Would keep" if dry_run else "Kept"
                output.print(f"{kept} {runs} without logs, because the UI reads the state of windows from these runs.")


COMMANDS = (prune,)


def _prune(
    chosen: Chosen, progress: "ProgressCallback", *, days: int | None, dry_run: bool
) -> "Sequence[tuple[dict[str, str], Pruned]]":
    """Prune each account and Dagster's storage. Return pairs of the owner, as `{"of": …}`, and the numbers of records.

    With several accounts, Dagster's storage is a separate pair. With one account, the only pair has the owner `{}`.
    """
    from dagster import DagsterInstance

    from klaviyo_pipeline.dagster_internals.storage import use_project_instance
    from klaviyo_pipeline.maintenance.prune import Pruned, prune_account, prune_runs

    def of_account(settings: Settings) -> Pruned:
        retention = days or settings.account.retention_days
        with warehouse(settings) as engine:
            return prune_account(settings.account, engine, days=retention, dry_run=dry_run)

    pruned = chosen.each(of_account)
    if not pruned:
        return []
    before = min(one.before for _, one in pruned)
    use_project_instance()
    with DagsterInstance.get() as instance:
        runs = prune_runs(instance, before, progress, dry_run=dry_run)
    if not chosen.several:
        return [({}, replace(one, runs=runs)) for _, one in pruned]
    of_accounts = [({"of": settings.account.slug}, one) for settings, one in pruned]
    return [*of_accounts, ({"of": DAGSTER}, Pruned(before, runs, {}))]


def _rows(pruned: "Pruned") -> list[dict[str, Any]]:
    return [{"what": KINDS[kind], "count": count} for kind, count in pruned.counts().items() if kind in KINDS]
