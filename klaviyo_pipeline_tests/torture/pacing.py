"""Processes that share one account's rate limits in Postgres, on a simulated clock that jumps to the next request.

Each process reserves a slot, waits for it, sends, and reserves again, like the client. The clock stops while a process
reserves. When all processes wait, it moves slightly past the first slot, because a real thread also wakes slightly
late. All processes whose slot has passed send at that time, and compete for the next slots.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass

import psycopg
from psycopg import sql

from klaviyo_pipeline.config.settings import SQL_DIR
from klaviyo_pipeline.klaviyo.rates import DAY, ENDPOINTS, MINUTE, Endpoint, Rate
from klaviyo_pipeline.postgres.schema.migrations import migrate
from klaviyo_pipeline_tests.support import SLUG
from klaviyo_pipeline_tests.torture.racer import BEGAN, Shared, run

TIERS = {
    "get_flows": 10 * MINUTE,
    "get_campaigns": 6 * MINUTE,
    "get_segments": 3 * MINUTE,
    "query_flow_series": 3.1 * DAY,
}
"""One endpoint of each published tier, and how long requests are sent to it."""


@dataclass(frozen=True)
class Race:
    """The times of the requests, in seconds since the start, by process."""

    endpoint: Endpoint
    sent: list[list[float]]

    @property
    def all(self) -> list[float]:
        return sorted(moment for one in self.sent for moment in one)

    def most(self, rate: Rate) -> int:
        """The maximum number of requests in any interval of the rate's length."""
        sent, first, most = self.all, 0, 0
        for last, moment in enumerate(sent):
            while moment - sent[first] >= rate.seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    @property
    def tightest(self) -> Rate:
        return min(self.endpoint.rates, key=lambda rate: rate.requests / rate.seconds)

    @property
    def reached(self) -> float:
        """The share of the strictest rate that was used, over whole intervals of its length."""
        sent, rate = self.all, self.tightest
        spans = (len(sent) - 1) // rate.requests
        return spans * rate.seconds / (sent[spans * rate.requests] - sent[0])

    @property
    def fairness(self) -> float:
        """The fewest requests of a process, divided by the most requests of a process."""
        counts = [len(one) for one in self.sent]
        return min(counts) / max(counts)


def race(database: str, endpoint: str, processes: int, seconds: float, seed: int = 1) -> Race:
    """This number of processes send requests to this endpoint, with their pacing in an empty database."""
    migrate(database, SLUG, SQL_DIR)
    with psycopg.connect(database, autocommit=True) as connection:
        table = sql.Identifier(SLUG, "simulated_clock")
        connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (moment timestamptz)").format(table))
        connection.execute(sql.SQL("TRUNCATE {}, {}").format(table, sql.Identifier(SLUG, "api_pacing")))
        connection.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(table), [BEGAN])
    context = multiprocessing.get_context("spawn")
    shared = Shared(context.Barrier(processes), context.Array("d", processes), context.Value("d", 0.0))
    answers = context.SimpleQueue()
    racers = [
        context.Process(
            target=run, args=(database, SLUG, endpoint, number, seconds, seed, shared, answers), daemon=True
        )
        for number in range(processes)
    ]
    for racer in racers:
        racer.start()
    sent = [answers.get() for _ in racers]
    for racer in racers:
        racer.join()
    return Race(ENDPOINTS[endpoint], sent)


def excesses(found: Race) -> list[str]:
    """A message for each exceeded rate, and for a share or a fairness that is too low."""
    reported = [
        f"{found.endpoint.name}: {found.most(rate)} requests in {rate.seconds:.0f} s, {rate.requests} are allowed"
        for rate in found.endpoint.rates
        if found.most(rate) > rate.requests
    ]
    if found.reached < 0.95:
        reported.append(f"{found.endpoint.name}: only {found.reached:.1%} of the rate is reached")
    # The order in which waiting processes get the row's lock is not defined, but none may starve.
    if found.fairness < 0.5:
        reported.append(f"{found.endpoint.name}: unfair, {[len(one) for one in found.sent]}")
    return reported
