"""The fork server imports the modules that workers need, only once. Worker processes are forked from it.

It is a separate process. Workers inherit the environment with which it was started.
"""

from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.planning.planner import SyncRequest

FORKSERVER_PRELOAD = "klaviyo_pipeline.sync.forkserver_preload"
CHARTS = "klaviyo_pipeline.reporting.charts"
"""Metrics are drawn with it, and it takes nearly as long to import as all the rest."""


def forking_context(*more: str) -> ForkServerContext:
    """The context that starts workers. The first worker waits until the server has imported everything."""
    context = get_context("forkserver")
    context.set_forkserver_preload([FORKSERVER_PRELOAD, *more])
    return context


def start_importing(request: SyncRequest) -> None:
    """Start the server if it is not running. It imports for about a second while this process continues."""
    forking_context(*([CHARTS] if METRICS.keys() & set(request.assets) else []))
    forkserver.ensure_running()
