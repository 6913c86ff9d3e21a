"""A process that `pacing` starts. Each of them imports this module, so the module imports little, and not Dagster."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from klaviyo_pipeline.klaviyo.pacing import LATE_WAKING
from klaviyo_pipeline.klaviyo.rates import ENDPOINTS
from klaviyo_pipeline.postgres.engine import create_engine
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer

BEGAN = datetime(2026, 7, 1, 12, tzinfo=UTC)
NEVER = 1e9
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Shared:
    """The messages between the processes. Times are in seconds since the start."""

    barrier: Any
    wakes: Any
    now: Any


def run(
    database: str, schema: str, endpoint: str, number: int, seconds: float, seed: int, shared: Shared, answers: Any
) -> None:
    """Reserve, wait and send for this long. `answers` gets the times of the requests."""
    clock = f'(SELECT moment FROM "{schema}".simulated_clock)'
    engine, chance = create_engine(database), random.Random(seed * 1_000 + number)
    pacer = PostgresPacer(engine, schema, longest_wait=NEVER, clock=clock)
    sent: list[float] = []
    waiting = False
    while shared.now.value < seconds:
        if not waiting:
            shared.wakes[number] = _since(pacer.reserve(ENDPOINTS[endpoint]).at)
            waiting = True
        if shared.barrier.wait(PATIENCE_SECONDS) == 0:
            moment = max(shared.now.value, min(shared.wakes)) + chance.uniform(0.0, LATE_WAKING)
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    f'UPDATE "{schema}".simulated_clock SET moment = %s', (BEGAN + timedelta(seconds=moment),)
                )
            shared.now.value = moment
        shared.barrier.wait(PATIENCE_SECONDS)
        if shared.wakes[number] <= shared.now.value:
            sent.append(shared.now.value)
            waiting = False
    answers.put(sent)
    engine.dispose()


def _since(moment: datetime) -> float:
    return (moment - BEGAN).total_seconds()
