"""The server that worker processes are forked from: what they need is imported once, there.

It is a process of its own, started with the environment that the workers are to have.
"""

from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

FORKSERVER_PRELOAD = "klaviyo_pipeline.sync.forkserver_preload"


def forking_context() -> ForkServerContext:
    """What workers are made with. The first one waits until the server has imported everything."""
    context = get_context("forkserver")
    context.set_forkserver_preload([FORKSERVER_PRELOAD])
    return context


def start_importing() -> None:
    """Start the server, if it is not there yet: it takes a second, in which this process can go on."""
    forking_context()
    forkserver.ensure_running()
