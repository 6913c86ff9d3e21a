"""Imports the modules that steps need. A run's fork server imports this module, so that step processes start faster."""

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

with gc_frozen():
    import klaviyo_pipeline.dagster_internals.storage  # noqa: F401
    from klaviyo_pipeline.orchestration.rehearsal import rehearse

    rehearse()
