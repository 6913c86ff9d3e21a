"""`klaviyo-pipeline prune`."""

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
    json_text,
    quiet,
    table,
    warehouse,
)
from klaviyo_pipeline.config.settings import Settings

if TYPE_CHECKING:
    from klaviyo_pipeline.dagster_internals.run_pruning import ProgressCallback
    from klaviyo_pipeline.maintenance.prune import Pruned

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
@accounts_option
@click.option(
    "--older-than", "days", type=click.IntRange(1, 36500), help="Days to keep. [default: KLAVIYO_RETENTION_DAYS]"
)
@click.option("--dry-run", is_flag=True, help="Count what would go, and remove nothing.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def prune(slugs: tuple[str, ...], days: int | None, dry_run: bool, form: str) -> None:
    """Remove logs of runs that ended long ago, and finished bookkeeping.

    Data, history, the ledger and the last materialization of every window stay: what the UI and `status` show of
    windows is the same afterwards. Runs that are not finished are never touched. Dagster's storage is pruned for all
    accounts that share it. Postgres uses the freed space again; it gives it back to the system on VACUUM FULL alone.
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
            output.print(f"{'Would go' if dry_run else 'Gone'}: what is from before {one.before:%Y-%m-%d %H:%M} UTC.")
        columns = {"of": "of", **COLUMNS} if chosen.several else COLUMNS
        output.print(table([{**of, **row} for of, one in pruned for row in _rows(one)], columns))
        for _, one in pruned:
            if one.runs and one.runs.thinned:
                output.print(f"{one.runs.thinned:,} old runs stay, without their logs: the UI shows windows by them.")


COMMANDS = (prune,)


def _prune(
    chosen: Chosen, tell: "ProgressCallback", *, days: int | None, dry_run: bool
) -> "Sequence[tuple[dict[str, str], Pruned]]":
    """What went of each account's, and of Dagster's: with several accounts apart, since that is no one's."""
    from dagster import DagsterInstance

    from klaviyo_pipeline.dagster_internals.storage import use_project_instance
    from klaviyo_pipeline.maintenance.prune import Pruned, prune_account, prune_runs

    def of_account(settings: Settings) -> Pruned:
        kept = days or settings.account.retention_days
        with warehouse(settings) as engine:
            return prune_account(settings.account, engine, days=kept, dry_run=dry_run)

    pruned = chosen.each(of_account)
    if not pruned:
        return []
    before = min(one.before for _, one in pruned)
    use_project_instance()
    with DagsterInstance.get() as instance:
        runs = prune_runs(instance, before, tell, dry_run=dry_run)
    if not chosen.several:
        return [({}, replace(one, runs=runs)) for _, one in pruned]
    of_accounts = [({"of": settings.account.slug}, one) for settings, one in pruned]
    return [*of_accounts, ({"of": DAGSTER}, Pruned(before, runs, {}))]


def _rows(pruned: "Pruned") -> list[dict[str, Any]]:
    return [{"what": KINDS[kind], "count": count} for kind, count in pruned.counts().items() if kind in KINDS]
