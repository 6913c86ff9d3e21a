"""The fork server, which imports what workers need once. Worker processes are forked from it.

It is a separate process. Workers inherit the environment with which it was started.
"""

from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

FORKSERVER_PRELOAD = "klaviyo_pipeline.sync.forkserver_preload"


def forking_context() -> ForkServerContext:
    """The context that starts workers. The first worker waits until the server has imported everything."""
    context = get_context("forkserver")
    context.set_forkserver_preload([FORKSERVER_PRELOAD])
    return context


def start_importing() -> None:
    """Start the server if it is not running. It imports for about a second while this process continues."""
    forking_context()
    forkserver.ensure_running()
