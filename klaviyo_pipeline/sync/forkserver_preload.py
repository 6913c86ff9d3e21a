"""Imports what workers need. The fork server imports this module once, so that no worker has to."""

import signal

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

# Ctrl-C is ignored here: the sync stops its workers itself, and the server ends with the process that started it.
signal.signal(signal.SIGINT, signal.SIG_IGN)

with gc_frozen():
    import klaviyo_pipeline.sync.workers  # noqa: F401
    from klaviyo_pipeline.orchestration.rehearsal import rehearse

    rehearse()
