"""What the server of worker processes imports, in place of each of them."""

import signal

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

# Whoever stops a sync stops its workers; the server goes with the process that began it, and has nothing to say.
signal.signal(signal.SIGINT, signal.SIG_IGN)

with gc_frozen():
    import klaviyo_pipeline.sync.workers  # noqa: F401
