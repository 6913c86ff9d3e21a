"""Imported once by the fork server, so that the workers need not import it."""

import signal

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

# The sync stops its workers itself, and this server ends with the process that started it. So it ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.SIG_IGN)

with gc_frozen():
    import klaviyo_pipeline.sync.workers  # noqa: F401
    from klaviyo_pipeline.orchestration.rehearsal import rehearse

    rehearse()
