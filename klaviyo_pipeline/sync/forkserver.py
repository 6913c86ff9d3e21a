"""Starts the fork server, a process that imports the modules of workers once. The workers are forked from it.

Workers inherit the environment variables with which the server was started.
"""

from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

from klaviyo_pipeline.catalog import METRICS
from klaviyo_pipeline.planning.planner import SyncRequest

FORKSERVER_PRELOAD = "klaviyo_pipeline.sync.forkserver_preload"
CHARTS = "klaviyo_pipeline.reporting.charts"
"""The module that draws charts of metrics. Its import takes nearly as long as all other imports together."""


def forking_context(*more: str) -> ForkServerContext:
    """The context in which workers are started. The server also imports the modules `more`.

    The first worker starts when the server has finished its imports.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([FORKSERVER_PRELOAD, *more])
    return context


def start_importing(request: SyncRequest) -> None:
    """Start the fork server if it is not running. It imports for about a second, while this process continues."""
    forking_context(*([CHARTS] if METRICS.keys() & set(request.assets) else []))
    forkserver.ensure_running()
