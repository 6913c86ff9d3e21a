"""A check, its context and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from klaviyo_pipeline.catalog import OBJECTS, period_column
from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.orchestration.assets.frames import filled_columns
from klaviyo_pipeline.postgres.schema.tables import DestinationTable, reflect
from klaviyo_pipeline.windows import asset_windows

Outcome = Literal["passed", "warning", "error"]

Result = TypeVar("Result")

NAME_LENGTH = 40


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of a check. `found` says what the check found and, if something is wrong, what to do.

    `metadata` contains plain values, such as counts and names of objects. `lost` are the starts of synced windows whose
    rows do not match the ledger. The caller records these windows as failed, so that the next sync requests them.
    """

    outcome: Outcome
    found: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    lost: Sequence[datetime] = ()


def passed(found: str, **metadata: Any) -> CheckOutcome:
    return CheckOutcome("passed", found, metadata)


def warning(found: str, **metadata: Any) -> CheckOutcome:
    """An outcome that you should look into, although the data can be used."""
    return CheckOutcome("warning", found, metadata)


def error(found: str, **metadata: Any) -> CheckOutcome:
    """An outcome for data that is wrong or incomplete."""
    return CheckOutcome("error", found, metadata)


@dataclass(frozen=True)
class CheckContext:
    """What a check reads: one asset of one account, in one snapshot of the database.

    `asset` is the asset's name. It is also the name of the table, unless the name ends in `_census`. `now` is the time
    of the snapshot by the database's clock. `assets` are all assets that are examined in this snapshot.
    """

    connection: sa.Connection
    account: Account
    asset: str
    now: datetime
    assets: Sequence[str]
    _targets: dict[str, DestinationTable] = field(default_factory=dict, repr=False)
    _results: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)

    def of(self, asset: str) -> CheckContext:
        """The context of another asset in the same snapshot."""
        return replace(self, asset=asset)

    def once(self, read: Callable[[CheckContext], Result]) -> Result:
        """The result of `read`, a function that reads data of all `assets`. It is called once for each snapshot."""
        if read not in self._results:
            self._results[read] = read(self)
        result: Result = self._results[read]
        return result

    def target(self, name: str | None = None) -> DestinationTable:
        """A table of the account's schema; the asset's own by default."""
        name = name or self.asset
        if name not in self._targets:
            filled = filled_columns(OBJECTS[name].columns) if name in OBJECTS else ()
            self._targets[name] = reflect(self.connection, self.account.slug, name, filled)
        return self._targets[name]

    def view(self, name: str, columns: Sequence[str]) -> sa.TableClause:
        """A view or table of the account's schema, with the columns to read."""
        return sa.table(name, *(sa.column(column) for column in columns), schema=self.account.slug)

    def rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        return self.connection.execute(query).all()

    def release(self) -> None:
        """End the transaction, so that it does not stay open during API calls. Later reads use a new snapshot."""
        self.connection.rollback()

    def period(self) -> sa.Label[date]:
        """The column with the first day of each row's period, labelled `date`."""
        return self.target().table.c[period_column(self.asset)].label("date")

    def day_of(self, moment: sa.ColumnElement[Any]) -> sa.ColumnElement[date]:
        """The SQL expression for the calendar date of a moment in the account's time zone."""
        return sa.cast(sa.func.timezone(self.account.timezone, moment), sa.Date)


@dataclass(frozen=True)
class Check:
    """A check as data. If a `blocking` check ends in an error, the assets downstream do not run."""

    name: str
    description: str
    examine: Callable[[CheckContext], CheckOutcome]
    blocking: bool = False


def shortened(name: object) -> str:
    """The name, cut after `NAME_LENGTH` characters."""
    text = str(name)
    return text if len(text) <= NAME_LENGTH else f"{text[:NAME_LENGTH]}…"


def sync_again(ctx: CheckContext, assets: str, first: date, last: date) -> str:
    """The remedy in words: a sync of `assets` that requests the days from `first` to `last` again."""
    set_back = earlier_start(ctx, first)
    first = first if set_back else max(first, ctx.account.start_date)
    return f"{set_back}Run `klaviyo-pipeline sync {assets} --from {first} --to {last} --force`."


def earlier_start(ctx: CheckContext, first: date) -> str:
    """A sentence that tells you to set an earlier start date; empty if `first` is not before the first window.

    A sync requests no windows before the start date. If the start date was moved to a later day, rows of earlier
    windows remain.
    """
    start = ctx.account.start_date
    is_earlier = first < asset_windows(ctx.account, ctx.asset).first_day(start)
    return f"Set KLAVIYO_START_DATE={first}, which is {start} now. " if is_earlier else ""


def read_as_listed(table: sa.Table, listing: Listing) -> list[sa.ColumnElement[bool]]:
    """Conditions for rows that were read at this listing's revision; none if all revisions list the same attributes."""
    revision = listing.shape.revision
    return [] if revision is None else [table.c.revision == revision]
