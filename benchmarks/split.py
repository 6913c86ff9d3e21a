"""Where a full sync of the entities spends its time, with pacing turned off: in the run's thread and in the readers.

Reader threads read the listings ahead of the run's thread, so the sum of both is more than the elapsed time. The
account's responses are cached before the measurement.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.account_server import FIRST_DAY, LARGE, LAST_DAY, MEDIUM, SMALL, served
from benchmarks.fetch import empty_database, environment_of
from benchmarks.results import Measurement
from klaviyo_pipeline.cli.main import main
from klaviyo_pipeline.klaviyo import client, sender
from klaviyo_pipeline.klaviyo.listings import Listing
from klaviyo_pipeline.orchestration.assets import entity_assets
from klaviyo_pipeline.orchestration.assets.concurrent_reading import read_concurrently
from klaviyo_pipeline.postgres.shared_pacing import PostgresPacer
from klaviyo_pipeline.postgres.write.writer import Writer

ENTITIES = ("flows", "campaigns", "forms", "segments")

OWN = ("waiting for pages", "building frames", "writing")
READERS = ("waiting for the API", "parsing", "keeping the pace")


class Stopwatch:
    """Seconds in the patched functions, by category, summed over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def around(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with time measurement."""

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                with self._lock:
                    self.seconds[what] += time.perf_counter() - began

        return timed

    def along(self, what: str, generator: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The generator; the time to produce each item is measured."""

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            items = generator(*arguments, **named)
            following = self.around(what, lambda: next(items, None))
            while (item := following()) is not None:
                yield item

        return timed


def run(url: str, *, quick: bool) -> Iterator[Measurement]:
    """The shares of each category, for both accounts."""
    sizes = {"tiny account": SMALL} if quick else {"medium account": MEDIUM, "large account": LARGE}
    for name, size in sizes.items():
        with served(size, 0.0) as account:
            _sync(account.url, empty_database(url), Stopwatch())
            watch = Stopwatch()
            whole = _sync(account.url, empty_database(url), watch)
        own = {what: watch.seconds[what] / whole for what in OWN}
        own["Dagster, and the rest"] = 1 - sum(own.values())
        for what, share in own.items():
            yield Measurement("split", f"{name}, the run's own time: {what}", share, "share")
        readers = sum(watch.seconds[what] for what in READERS)
        for what in READERS:
            yield Measurement("split", f"{name}, the readers' time: {what}", watch.seconds[what] / readers, "share")


def _sync(account: str, database: str, watch: Stopwatch) -> float:
    """Seconds of a first sync of each entity, sequentially in this process."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        for name, value in environment_of(account, database, Path(home)).items():
            patch.setitem(os.environ, name, value)
        for what, owner, function in (
            ("waiting for the API", sender.Sender, "_send"),
            ("parsing", sender, "read_document"),
            ("parsing", Listing, "record"),
            ("parsing", client, "included_of"),
            ("keeping the pace", PostgresPacer, "reserve"),
            ("building frames", entity_assets, "record_frame"),
            ("writing", Writer, "write"),
        ):
            patch.setattr(owner, function, watch.around(what, getattr(owner, function)))
        patch.setattr(entity_assets, "read_concurrently", watch.along("waiting for pages", read_concurrently))
        began = time.perf_counter()
        for entity in ENTITIES:
            days = ["--from", FIRST_DAY.isoformat(), "--to", LAST_DAY.isoformat()]
            with pytest.raises(SystemExit) as ended:
                main(["sync", entity, *days])
            assert ended.value.code == 0
        return time.perf_counter() - began
