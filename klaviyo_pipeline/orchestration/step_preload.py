"""Imported once by the fork server of a run, so that the processes of its steps need not import it."""

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

with gc_frozen():
    import klaviyo_pipeline.dagster_internals.storage  # noqa: F401
    from klaviyo_pipeline.orchestration.rehearsal import rehearse

    rehearse()
